"""The WSGI application: Django's pages and calls, which `atomsite.asgi` runs on threads."""

import os

from django.core.wsgi import get_wsgi_application

from atomsite.lean import import_framework

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "atomsite.settings")
application = get_wsgi_application()
import_framework()

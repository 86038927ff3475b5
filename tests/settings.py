"""The settings of a test run: the product's own, with a home and a key of its own, and logins that cost little."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_home = tempfile.mkdtemp(prefix="atom-test-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ["ATOM_HOME"] = _home
os.environ["SECRET_KEY"] = "the-tests-sign-with-this-and-nothing-else-does-0123456789"  # noqa: S105
for _name in (
    "ATOM_KEY",
    "ATOM_HOST_KEY",
    "ATOM_URL",
    "ATOM_KEYS",
    "ATOM_SERVER_KEY",
    "ATOM_PUBLIC_URL",
    "ATOM_SCRATCH",
    "REDIS_URL",
    "DEBUG",
    "PORT",
):
    os.environ.pop(_name, None)

from atomsite.settings import *  # noqa: E402, F403
from atomsite.settings import ATOM_KEYS, DATABASES, IS_SQLITE  # noqa: E402
from audit import trail_keys  # noqa: E402
from shellagent import signing_keys  # noqa: E402
from shellagent.notifying import at_rest  # noqa: E402

signing_keys.create(Path(ATOM_KEYS))
trail_keys.create(Path(ATOM_KEYS))
at_rest.create(Path(ATOM_KEYS))

if IS_SQLITE:
    # Said in full, because pytest-xdist's support would know SQLite only by Django's own name for it.
    DATABASES["default"]["TEST"] = {"NAME": ":memory:"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# A program that a test starts is the product, with the product's settings.
os.environ["DJANGO_SETTINGS_MODULE"] = "atomsite.settings"

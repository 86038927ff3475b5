from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class AtomConfig(AppConfig):
    name = "atomsite"
    verbose_name = "Atom Local Agent"


class AtomAdminConfig(AdminConfig):
    """The stock admin, with this product's site in its place."""

    default_site = "atomsite.admin_site.AtomAdminSite"

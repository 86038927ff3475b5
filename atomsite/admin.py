"""The admin site: Django's own, with this product's name."""

from django.contrib import admin


class AtomAdminSite(admin.AdminSite):
    site_header = "Atom Local Agent"
    site_title = "Atom Local Agent"
    index_title = "Now"

"""Who sees what of the sections that come with Django and with the packages."""

from typing import TYPE_CHECKING, Any, Final

from axes.models import AccessAttempt
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from audit.admin_lists import ShowOnlyAdmin

if TYPE_CHECKING:
    _UserAdmin = UserAdmin[User]
else:
    _UserAdmin = UserAdmin

#: Apps that register themselves. A schedule of django-q2 names a function to run, so whoever could edit one could do
#: all; its queue holds pickles. The log of logins is for the trail, and the attempts are shown below. An
#: authenticator's secret is shown to whom it belongs, once.
_OUT: Final = ("django_q", "axes", "otp_totp")


class SuperusersOnly:
    """Whoever edits users and groups can give themselves any permission, so only who has them all may."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)


class PeopleAdmin(SuperusersOnly, _UserAdmin):
    """Users. What is changed here and its event are one transaction; Django's own pages see to that except for this."""

    @method_decorator(sensitive_post_parameters())
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        with transaction.atomic():
            return super().user_change_password(request, id, form_url)


class GroupsAdmin(SuperusersOnly, GroupAdmin):
    """Groups."""


class AccessAttemptAdmin(ShowOnlyAdmin[Any]):
    """Failed logins that count toward a lock-out."""

    list_display = ["attempt_time", "username", "ip_address", "failures_since_start", "path_info"]
    fields = ["attempt_time", "username", "ip_address", "failures_since_start", "path_info", "user_agent"]
    search_fields = ["username", "ip_address"]
    show_facets = admin.ShowFacets.NEVER

    def may_view(self, request: HttpRequest) -> bool:
        return _is_superuser(request)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and getattr(request.user, "is_superuser", False))


def _register() -> None:
    for label in _OUT:
        for model in apps.get_app_config(label).get_models():
            if admin.site.is_registered(model):
                admin.site.unregister(model)
    admin.site.unregister([User, Group])
    admin.site.register(User, PeopleAdmin)
    admin.site.register(Group, GroupsAdmin)
    admin.site.register(AccessAttempt, AccessAttemptAdmin)


_register()

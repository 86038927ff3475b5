"""What people do with their accounts, as Django tells of it: logins, passwords, permissions and groups.

Django offers signals for these and nothing else. Each handler writes in the transaction of the change where there is
one (the admin's pages, `init`), and otherwise right after it.
"""

from collections.abc import Mapping
from typing import Any, Final

from axes.signals import user_locked_out
from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import transaction
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save
from django.http import HttpRequest

from audit.grouping import is_told, occurrence
from audit.origin import Origin, coming_from, current_origin
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Party, record

#: What is compared of a user and of a group. A password is compared, and only that it is another one is told.
_USER_FIELDS: Final = ("username", "email", "first_name", "last_name", "is_active", "is_staff", "is_superuser")
_FAILURES_AT_FIRST: Final = 20


def actor_of_now() -> Party:
    """Return who is logged in where a request is answered, else the product: a command on the server."""
    origin = current_origin()
    user = origin.user if origin else None
    return _party(user) if isinstance(user, User) else SYSTEM


def connect() -> None:
    """Begin to listen."""
    user_logged_in.connect(_logged_in, dispatch_uid="audit")
    user_logged_out.connect(_logged_out, dispatch_uid="audit")
    user_login_failed.connect(_login_failed, dispatch_uid="audit")
    user_locked_out.connect(_locked_out, dispatch_uid="audit")
    pre_save.connect(_before_user, sender=User, dispatch_uid="audit")
    post_save.connect(_user_saved, sender=User, dispatch_uid="audit")
    pre_delete.connect(_user_deleted, sender=User, dispatch_uid="audit")
    pre_save.connect(_before_group, sender=Group, dispatch_uid="audit")
    post_save.connect(_group_saved, sender=Group, dispatch_uid="audit")
    pre_delete.connect(_group_deleted, sender=Group, dispatch_uid="audit")
    for through in (User.user_permissions.through, User.groups.through, Group.permissions.through):
        m2m_changed.connect(_related_changed, sender=through, dispatch_uid="audit")


def _party(user: User) -> Party:
    return Party("user", str(user.pk), user.get_username())


def _group_party(group: Group) -> Party:
    return Party("group", str(group.pk), group.name)


def _tell(tag: Tag, subject: Party, data: Mapping[str, object] | None = None, *, actor: Party | None = None) -> None:
    with transaction.atomic():
        record(Event(tag, actor or actor_of_now(), subject, data=data or {}))


def _logged_in(request: HttpRequest, user: User, **_: Any) -> None:
    _tell(Tag.USER_LOGGED_IN, _party(user), actor=_party(user))


def _logged_out(request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:
        _tell(Tag.USER_LOGGED_OUT, _party(user), actor=_party(user))


def _login_failed(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """Tell of a failed login. A name that nobody has may be a password in the wrong field, and is not kept."""
    if request is None:
        return
    origin = Origin.of(request)
    number = occurrence(f"login-failed:{origin.address}")
    if is_told(number, at_first=_FAILURES_AT_FIRST):
        who = _known(str(credentials.get("username", "")))
        with coming_from(origin):
            _tell(Tag.USER_LOGIN_FAILED, who, {"attempts_from_there": number}, actor=who)


def _locked_out(request: HttpRequest, username: str | None, ip_address: str | None, **_: Any) -> None:
    number = occurrence(f"locked-out:{username}:{ip_address}")
    if is_told(number, at_first=1):
        who = _known(username or "")
        with coming_from(Origin.of(request)):
            _tell(Tag.USER_LOCKED_OUT, who, {"times": number}, actor=SYSTEM)


def _known(username: str) -> Party:
    user = User.objects.filter(username=username).first() if "\0" not in username else None
    return _party(user) if user else Party("user", label="nobody known here")


def _before_user(instance: User, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    is_of_interest = update_fields is None or set(update_fields) - {"last_login"}
    before = User.objects.filter(pk=instance.pk).first() if is_of_interest and instance.pk else None
    instance._audit_before = before  # type: ignore[attr-defined]


def _user_saved(instance: User, created: bool, **_: Any) -> None:
    before: User | None = getattr(instance, "_audit_before", None)
    if created:
        _tell(Tag.USER_CREATED, _party(instance), {"after": _values(instance)})
        return
    if before is None:
        return
    if _values(before) != _values(instance):
        _tell(Tag.USER_CHANGED, _party(instance), {"before": _values(before), "after": _values(instance)})
    if before.password != instance.password:
        # Django hashes a password again, with newer parameters, when its owner logs in; then nobody has set one.
        is_set = getattr(instance, "_password", None) is not None
        _tell(Tag.USER_PASSWORD_CHANGED, _party(instance), {"only_hashed_again": not is_set})


def _user_deleted(instance: User, **_: Any) -> None:
    groups = sorted(instance.groups.values_list("name", flat=True))
    permissions = sorted(map(_codename, instance.user_permissions.select_related("content_type")))
    before = {**_values(instance), "groups": groups, "permissions": permissions}
    _tell(Tag.USER_DELETED, _party(instance), {"before": before})


def _before_group(instance: Group, **_: Any) -> None:
    before = Group.objects.filter(pk=instance.pk).first() if instance.pk else None
    instance._audit_before = before  # type: ignore[attr-defined]


def _group_saved(instance: Group, created: bool, **_: Any) -> None:
    before: Group | None = getattr(instance, "_audit_before", None)
    if created:
        _tell(Tag.GROUP_CREATED, _group_party(instance))
    elif before is not None and before.name != instance.name:
        _tell(Tag.GROUP_CHANGED, _group_party(instance), {"before": before.name, "after": instance.name})


def _group_deleted(instance: Group, **_: Any) -> None:
    permissions = sorted(map(_codename, instance.permissions.select_related("content_type")))
    members = sorted(instance.user_set.values_list("username", flat=True))
    _tell(Tag.GROUP_DELETED, _group_party(instance), {"before": {"permissions": permissions, "members": members}})


def _related_changed(sender: Any, instance: Any, **signal: Any) -> None:
    """Tell which permissions or groups were given and taken, on the event of who has them."""
    action, numbers = signal["action"], signal["pk_set"]
    if action == "pre_clear":
        # The signal after it no longer says what there was.
        numbers = set(_related(sender, instance).values_list("pk", flat=True))
    elif action not in ("post_add", "post_remove"):
        return
    change = "added" if action == "post_add" else "removed"
    others = list(signal["model"].objects.filter(pk__in=numbers or ()))
    given_to: dict[Any, list[str]] = {}
    for other in others:
        owner, given = (other, instance) if signal["reverse"] else (instance, other)
        given_to.setdefault(owner, []).append(_codename(given) if isinstance(given, Permission) else given.name)
    for owner, names in given_to.items():
        data = {change: sorted(names)}
        if sender is User.groups.through:
            _tell(Tag.USER_GROUPS_CHANGED, _party(owner), data)
        elif sender is User.user_permissions.through:
            _tell(Tag.USER_PERMISSIONS_CHANGED, _party(owner), data)
        else:
            _tell(Tag.GROUP_PERMISSIONS_CHANGED, _group_party(owner), data)


def _related(sender: Any, instance: Any) -> Any:
    if sender is User.groups.through:
        return instance.groups if isinstance(instance, User) else instance.user_set
    if sender is User.user_permissions.through:
        return instance.user_permissions if isinstance(instance, User) else instance.user_set
    return instance.permissions if isinstance(instance, Group) else instance.group_set


def _codename(permission: Permission) -> str:
    return f"{permission.content_type.app_label}.{permission.codename}"


def _values(user: User) -> dict[str, object]:
    return {name: getattr(user, name) for name in _USER_FIELDS}

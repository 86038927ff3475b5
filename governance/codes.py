"""One-time codes of people's authenticators: a second proof, asked for where an operator says so."""

from django.contrib.auth.models import User
from django.db import transaction
from django_otp import match_token
from django_otp.plugins.otp_totp.models import TOTPDevice

from audit.tags import Tag
from audit.trail import Event, record
from governance.errors import CodeRequiredError, ConflictError, ForbiddenError
from governance.services import user_party

_WRONG = "This one-time code is not right, or was used already. Wait for the next one, and give that."


def has_code(user: User) -> bool:
    """Return whether this person has set up an authenticator."""
    return bool(TOTPDevice.objects.filter(user=user, confirmed=True).exists())


def code_check(user: User, code: str) -> None:
    """Take a person's one-time code; it is good once. Raises CodeRequiredError for one that is missing or wrong.

    After a wrong one the next is looked at only after a pause that doubles each time. Call it outside a transaction:
    what it writes has to stay.
    """
    if not has_code(user):
        raise CodeRequiredError("This needs a one-time code, and you have no authenticator yet. Set one up at /code.")
    if not code.strip():
        raise CodeRequiredError("This needs a one-time code of your authenticator.")
    if match_token(user, code.strip()) is None:
        raise CodeRequiredError(_WRONG)


@transaction.atomic
def code_begin(user: User) -> TOTPDevice:
    """Return a new authenticator that counts once a code of it was given; one begun before is forgotten."""
    TOTPDevice.objects.filter(user=user, confirmed=False).delete()
    return TOTPDevice.objects.create(user=user, name="authenticator", confirmed=False)


def has_begun(user: User) -> bool:
    """Return whether this person is setting up an authenticator."""
    return bool(TOTPDevice.objects.filter(user=user, confirmed=False).exists())


def people_with_codes(*, but: User) -> list[User]:
    """Return who else has an authenticator."""
    return list(User.objects.filter(totpdevice__confirmed=True).exclude(pk=but.pk).order_by("username").distinct())


def code_set(user: User, code: str) -> None:
    """Make the authenticator that was begun the person's. Raises CodeRequiredError, ConflictError where none was."""
    with transaction.atomic():
        device = TOTPDevice.objects.select_for_update().filter(user=user, confirmed=False).order_by("-pk").first()
        if device is None:
            raise ConflictError("No authenticator is being set up. Begin again.")
        is_right = device.verify_token(code.strip())
        if is_right:
            TOTPDevice.objects.filter(user=user).exclude(pk=device.pk).delete()
            TOTPDevice.objects.filter(pk=device.pk).update(confirmed=True)
            record(Event(Tag.USER_CODE_SET, user_party(user), user_party(user)))
    if not is_right:
        raise CodeRequiredError(_WRONG)


@transaction.atomic
def code_remove(*, user: User, actor: User) -> None:
    """Take a person's authenticator away. Raises ForbiddenError for who is no superuser, ConflictError.

    One's own is replaced with a code of it, never without: else a stolen login would be enough.
    """
    if not actor.is_superuser or actor.pk == user.pk:
        raise ForbiddenError("Another person who is a superuser has to take an authenticator away.")
    if not TOTPDevice.objects.filter(user=user).delete()[0]:
        raise ConflictError(f"{user.get_username()} has no authenticator.")
    record(Event(Tag.USER_CODE_REMOVED, user_party(actor), user_party(user)))

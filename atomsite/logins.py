"""How a login that works changes the count of those that failed. django-axes counts, and locks out."""

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.http import HttpRequest


class LoginHandler(AxesDatabaseHandler):  # type: ignore[misc]  # the package ships no types
    """Forgets failures of the account that logged in, and from the address that it logged in from.

    django-axes forgets all of that address: whoever has any account could guess another's password for ever, and log
    in as themselves whenever a lock-out is near.
    """

    def reset_user_attempts(self, request: HttpRequest, credentials: dict[str, str] | None = None) -> int:
        """Return how many attempts were forgotten."""
        username = (credentials or {}).get("username", "")
        mine = AccessAttempt.objects.filter(username=username, ip_address=request.axes_ip_address)  # type: ignore[attr-defined]
        return int(mine.delete()[0])

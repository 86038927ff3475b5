"""The page on which one-time codes are set up: with a password first, with a code later, and shown once."""

import re
import time
from base64 import b32decode

from django_otp.oath import TOTP

from audit.models import AuditEvent
from governance.codes import has_code
from tests.admin.conftest import Reader


def shown(secret: str, steps: int = 0) -> str:
    """Return what an authenticator with this secret shows so many steps of 30 s from now."""
    code = TOTP(b32decode(secret))
    code.time = time.time() + 30 * steps
    return f"{code.token():06}"


def test_from_the_first_to_the_next_and_away(decider: Reader, boss: Reader) -> None:
    user = decider.user
    assert "The password is wrong" in decider.post("/code", action="begin", password="guessed")  # noqa: S106
    html = decider.post("/code", status=200, action="begin", password=f"password of {user.username}")
    assert '<svg width="' in html
    (secret,) = re.findall(r"<code class=\"atom-copy\">([A-Z2-7]+=*)</code>", html)
    assert secret not in decider.get("/code"), "once"
    assert not has_code(user)
    assert "not right" in decider.post("/code", action="set", code="000000" if shown(secret) != "000000" else "1")
    user.totpdevice_set.update(throttling_failure_count=0)  # type: ignore[attr-defined]
    assert "One-time codes are set up" in decider.post("/code", action="set", code=shown(secret, -1))
    assert has_code(user)
    # A stolen login has the page, and neither the password nor a code replaces what it does not know.
    refused = decider.post("/code", action="begin", password=f"password of {user.username}")
    assert "needs a one-time code" in refused
    html = decider.post("/code", status=200, action="begin", code=shown(secret))
    assert secret not in html
    assert has_code(user), "the old one counts until the new one is shown to work"
    assert "Another person who is a superuser" in decider.post("/code", action="remove", user=user.pk)
    assert "approver" in boss.get("/code")
    assert "has no authenticator any more" in boss.post("/code", action="remove", user=user.pk)
    assert not has_code(user)
    tags = AuditEvent.objects.filter(tag__startswith="user:code_").order_by("id").values_list("tag", "actor_label")
    assert list(tags) == [("user:code_set", "approver"), ("user:code_removed", "superuser")]


def test_what_is_no_form_does_nothing(decider: Reader) -> None:
    decider.post("/code", action="nonsense")
    decider.post("/code", action="remove", user="x")
    decider.post("/code", status=404, action="remove", user="999999")
    assert not has_code(decider.user)

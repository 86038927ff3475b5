"""Granting from the card: shown first, given by a form, listed with its use, revoked with one click."""

import re

from django.urls import reverse

from governance.models import PolicyRule
from shellagent.states import Status
from tests.admin.conftest import Reader, staff
from tests.shellagent.scene import Scene
from tests.shellagent.test_allowing import asked


def test_a_grant_is_shown_then_given_then_revoked(scene: Scene, decider: Reader) -> None:
    granter = staff("granter", "shellagent.approve", "governance.edit_policy")
    for _twice in range(2):
        session = asked(scene)
    asked(scene, "touch -c /tmp/work/other")
    card, path = reverse("card", args=[session.pk]), reverse("grant", args=[session.pk, "command"])
    assert path in granter.get(card)
    assert path not in decider.get(card)
    decider.get(path, status=403)
    granter.get(reverse("grant", args=[session.pk, "everything"]), status=404)
    shown = granter.get(path)
    assert "It would have covered 2 of the last 3 sessions" in shown
    assert "and nothing more" in shown
    assert "covered 3 of the last 3" in granter.get(reverse("grant", args=[session.pk, "shape"]))
    assert not PolicyRule.objects.exists()
    (seen,) = re.findall(r'name="seen" value="([0-9a-f]{64})"', shown)
    assert "Say why" in granter.post(path, status=200, seen=seen, reason="")
    assert "since you saw it" in granter.post(path, status=200, seen="0" * 64, reason="Harmless.")
    html = granter.post(path, seen=seen, reason="Harmless.")
    assert "Granted: this exact command, for 24 hours" in html
    assert asked(scene).status == Status.QUEUED
    row = PolicyRule.objects.get()
    assert "used 1 time" in granter.get(card)
    revoke = f"/grants/{row.pk}/revoke"
    assert f'formaction="{revoke}"' in granter.get("/admin/governance/policyrule/")
    decider.post(revoke, status=403)
    assert granter.client.get(revoke).status_code == 405
    assert "asked about again" in granter.post(revoke, session=str(session.pk))
    assert asked(scene).status == Status.PENDING


def test_what_cannot_be_granted_says_why(scene: Scene, boss: Reader) -> None:
    session = asked(scene, "make test")
    html = boss.get(reverse("grant", args=[session.pk, "command"]))
    assert "It cannot be granted." in html
    assert 'name="seen"' not in html

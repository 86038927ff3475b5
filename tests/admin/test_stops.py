"""The kill switch in the admin: a button where it is needed, said on every page, for who may."""

from typing import Any

from governance.models import KillSwitch
from governance.policy.types import Maturity
from tests.admin.conftest import Reader, staff
from tests.shellagent.scene import Scene

SWITCH = "/admin/governance/killswitch/switch/"


def test_the_buttons_stop_and_every_page_says_so(scene: Scene, boss: Reader, nobody: Reader) -> None:
    agent = scene.agents[Maturity.INTERN]
    pages = {"": "/admin/", "host": f"/admin/shellagent/host/{scene.host.pk}/change/"}
    pages["agent"] = f"/admin/governance/agent/{agent.pk}/change/"
    for name, page in pages.items():
        assert f'action="{SWITCH}"' in boss.get(page)
        values: dict[str, Any] = {name: {"host": scene.host, "agent": agent}[name].pk} if name else {}
        assert "Not done. Say why" in boss.post(SWITCH, **values, reason="")
        assert "<em>" not in boss.post(SWITCH, **values, reason="<em>Stop</em>")
    assert KillSwitch.objects.filter(lifted_at=None, switched_by=boss.user).count() == 3
    shown = nobody.get("/admin/")
    assert shown.count("atom-stopped") == 3
    assert "lift/" not in shown
    for row in KillSwitch.objects.all():
        assert "Lifted:" in boss.post(f"/admin/governance/killswitch/{row.pk}/lift/", reason="Mended.")
    assert "atom-stopped" not in nobody.get("/admin/")
    assert "Mended." in boss.get(f"/admin/governance/killswitch/{row.pk}/change/")


def test_who_may_not_switch_does_not(scene: Scene, decider: Reader) -> None:
    assert SWITCH not in decider.get("/admin/")
    decider.post(SWITCH, status=403, reason="Stop.")
    assert staff("seer", "governance.view_killswitch").client.get(SWITCH).status_code == 405
    assert not KillSwitch.objects.exists()

"""An agent's record on its page, promotions granted there, and the rules of both directions."""

import pytest

from governance.checks import policy_is_sound
from governance.models import Agent, DemotionRow, PromotionProposal, PromotionRow
from governance.policy.types import Maturity
from shellagent.services import promotions_review
from shellagent.states import Status
from tests.admin.conftest import Reader, staff
from tests.shellagent.scene import DENIED, Scene
from tests.shellagent.test_records import LEVEL, ended

PROMOTIONS = "/admin/governance/promotionrow/"
DEMOTIONS = "/admin/governance/demotionrow/"


def page_of(scene: Scene, level: Maturity = LEVEL) -> str:
    return f"/admin/governance/agent/{scene.agents[level].pk}/change/"


def test_the_record_and_each_gap_stand_on_the_page(scene: Scene, boss: Reader) -> None:
    ended(scene, Status.SUCCEEDED)
    scene.session(DENIED)
    html = boss.get(page_of(scene))
    assert "9 more different commands" in html
    assert "0.9<sup>1</sup>" in html
    assert "1 ran and ended well, 0 failed or refused by the host, 1 not let run; 1 violations" in html
    assert "asks for a blocked command" in html
    assert "There is no maturity above this one." in boss.get(page_of(scene, Maturity.AUTONOMOUS))


@pytest.mark.parametrize("decision", ["grant", "decline"])
def test_a_promotion_is_decided_by_who_may(scene: Scene, boss: Reader, decider: Reader, decision: str) -> None:
    for number in range(10):
        ended(scene, Status.SUCCEEDED, number)
    assert "the review of the coming night" in boss.get(page_of(scene))
    promotions_review()
    proposal = PromotionProposal.objects.get()
    path = f"/admin/governance/promotionproposal/{proposal.pk}/decide/"
    assert path in boss.get(page_of(scene))
    seer = staff("seer", "governance.view_agent")
    assert path not in seer.get(page_of(scene))
    assert "lack the permission" in seer.post(path, decision=decision, reason="So be it.")
    assert "Say why" in boss.post(path, decision=decision, reason="")
    html = boss.post(path, decision=decision, reason="So be it.")
    assert ("is INTERN now" if decision == "grant" else "earns it anew") in html
    assert Agent.objects.get(pk=scene.agents[LEVEL].pk).maturity == ("INTERN" if decision == "grant" else "STUDENT")
    assert "So be it." in boss.get(f"/admin/governance/promotionproposal/{proposal.pk}/change/")
    assert "already by superuser" in boss.post(path, decision=decision, reason="Again.")


def test_more_maturity_cannot_be_made_to_need_less(scene: Scene, nobody: Reader) -> None:
    editor = staff("editor", "governance.edit_policy")
    row = PromotionRow.objects.get(maturity="SUPERVISED")
    path = f"{PROMOTIONS}{row.pk}/change/"
    html = editor.post(path, status=200, decided="51", most_intervention="20", least_score="0.85")
    assert "AUTONOMOUS asks for fewer decided sessions" in html
    editor.post(path, decided="30", most_intervention="10", least_score="0.90")
    row.refresh_from_db()
    assert (row.decided, row.most_intervention, str(row.least_score)) == (30, 10, "0.90")
    nobody.get(PROMOTIONS, status=403)
    assert policy_is_sound(databases=["default"]) == []
    PromotionRow.objects.filter(pk=row.pk).update(least_score="0.99")
    assert [message.id for message in policy_is_sound(databases=["default"])] == ["governance.E004"]
    editor.post(f"{DEMOTIONS}add/", kind="host-refusals", times="2")
    assert DemotionRow.objects.get(kind="host-refusals").times == 2

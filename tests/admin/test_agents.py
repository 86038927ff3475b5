"""Agents: added, then changed by their buttons only, each time with a reason and an event."""

import pytest

from audit.models import AuditEvent
from governance import keys
from governance.models import Agent, AgentKey
from governance.policy.types import Maturity
from shellagent.models import AgentHost
from tests.admin.conftest import Reader, staff
from tests.shellagent.scene import Caller, Scene, enrolled

LIST = "/admin/governance/agent/"
KEY_HEAD = keys.KeyKind.AGENT.value


@pytest.fixture
def agent(scene: Scene) -> Agent:
    return scene.agents[Maturity.STUDENT]


def events(tag: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(tag=tag).order_by("-id"))


def test_adding_goes_through_the_service(scene: Scene, boss: Reader) -> None:
    boss.post(f"{LIST}add/", name="fresh", owner=boss.user.pk, maturity="AUTONOMOUS")
    agent = Agent.objects.get(name="fresh")
    assert (agent.maturity, agent.owner) == ("STUDENT", boss.user)
    assert events("agent:created")[0].subject_label == "fresh"
    assert "already exists" in boss.post(f"{LIST}add/", status=200, name="fresh", owner=boss.user.pk)
    assert "lower-case" in boss.post(f"{LIST}add/", status=200, name="Bad Name", owner=boss.user.pk)


def test_the_form_cannot_change_an_agent(agent: Agent, boss: Reader) -> None:
    boss.post(f"{LIST}{agent.pk}/change/", status=403, name="other", maturity="AUTONOMOUS")
    boss.post(f"{LIST}{agent.pk}/delete/", status=403, post="yes")
    agent.refresh_from_db()
    assert (agent.name, agent.maturity) == ("student", "STUDENT")


def test_maturity_changes_with_a_reason(agent: Agent, boss: Reader) -> None:
    path = f"{LIST}maturity/?agent={agent.pk}"
    assert "student" in boss.get(path)
    assert "This field is required" in boss.post(path, status=200, maturity="INTERN", reason="")
    agent.refresh_from_db()
    assert agent.maturity == "STUDENT"
    assert "student is INTERN now." in boss.post(path, maturity="INTERN", reason="ten good weeks")
    agent.refresh_from_db()
    assert agent.maturity == "INTERN"
    assert "ten good weeks" in events("agent:maturity_changed")[0].body
    assert "Not done. student is INTERN already." in boss.post(path, maturity="INTERN", reason="again")


def test_the_action_leads_to_the_page_that_asks_why(scene: Scene, boss: Reader) -> None:
    chosen = [scene.agents[Maturity.STUDENT].pk, scene.agents[Maturity.INTERN].pk]
    html = boss.post(LIST, action="change_maturity", _selected_action=chosen)
    assert "Change maturity" in html
    assert "student" in html
    assert "intern" in html
    assert Agent.objects.get(pk=chosen[0]).maturity == "STUDENT"


def test_maturity_is_for_who_has_the_permission(agent: Agent) -> None:
    keeper = staff("keeper", "governance.view_agent", "governance.change_agent")
    assert "Change maturity" not in keeper.get(f"{LIST}{agent.pk}/change/")
    keeper.get(f"{LIST}maturity/?agent={agent.pk}", status=403)
    keeper.post(f"{LIST}maturity/?agent={agent.pk}", status=403, maturity="AUTONOMOUS", reason="x")
    keeper.client.post(LIST, {"action": "change_maturity", "_selected_action": [agent.pk]})
    agent.refresh_from_db()
    assert agent.maturity == "STUDENT"


@pytest.mark.parametrize("query", ["", "?agent=", "?agent=x", "?agent=99999999"])
def test_the_maturity_page_without_an_agent_says_so(scene: Scene, boss: Reader, query: str) -> None:
    response = boss.client.get(f"{LIST}maturity/{query}", follow=True)
    assert "Choose at least one agent." in response.content.decode()


def test_suspending_and_resuming(agent: Agent, boss: Reader) -> None:
    path = f"{LIST}{agent.pk}/suspend/"
    assert "Say why" in boss.post(path, wanted="suspend", reason="")
    assert "suspended" in boss.post(path, wanted="suspend", reason="it loops")
    assert Agent.objects.get(pk=agent.pk).is_suspended
    assert "Not done." in boss.post(path, wanted="suspend", reason="again")
    assert "active again" in boss.post(path, wanted="resume", reason="fixed")
    assert not Agent.objects.get(pk=agent.pk).is_suspended
    assert boss.client.get(path).status_code == 405


def test_a_key_is_shown_once_and_only_in_the_answer(agent: Agent, boss: Reader) -> None:
    response = boss.client.post(f"{LIST}{agent.pk}/keys/", {"label": "ci", "days": "30"})
    html = response.content.decode()
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    key = html.split(KEY_HEAD, 1)[1].split("<", 1)[0]
    key = KEY_HEAD + key
    row = AgentKey.objects.get(digest=keys.digest(key))
    assert row.label == "ci"
    assert row.expires_at is not None
    assert not any(key in cookie.value for cookie in response.cookies.values())
    assert key not in boss.get(f"{LIST}{agent.pk}/change/")
    assert not AuditEvent.objects.filter(body__contains=key).exists()
    caller = Caller.with_key(key)
    assert caller.get("/api/local-agent/status").status == 200
    assert "is revoked" in boss.post(f"{LIST}{agent.pk}/keys/{row.pk}/revoke/")
    assert caller.get("/api/local-agent/status").status == 401
    assert "Not done. This key is revoked already." in boss.post(f"{LIST}{agent.pk}/keys/{row.pk}/revoke/")


def test_keys_and_suspension_are_for_who_may_change_agents(agent: Agent) -> None:
    viewer = staff("viewer", "governance.view_agent")
    html = viewer.get(f"{LIST}{agent.pk}/change/")
    for word in ("Issue a key", "Suspend", "Revoke"):
        assert word not in html
    viewer.post(f"{LIST}{agent.pk}/keys/", status=403)
    viewer.post(f"{LIST}{agent.pk}/suspend/", status=403, wanted="suspend", reason="x")
    viewer.post(f"{LIST}{agent.pk}/keys/{AgentKey.objects.filter(agent=agent)[0].pk}/revoke/", status=403)


def test_a_key_of_another_agent_is_not_found(scene: Scene, agent: Agent, boss: Reader) -> None:
    other = AgentKey.objects.filter(agent=scene.agents[Maturity.INTERN])[0]
    boss.post(f"{LIST}{agent.pk}/keys/{other.pk}/revoke/", status=404)
    assert AgentKey.objects.get(pk=other.pk).revoked_at is None


def test_links_to_hosts_go_through_the_service(scene: Scene, boss: Reader) -> None:
    agent, (other, _key) = scene.agents[Maturity.STUDENT], enrolled("other")
    path = "/admin/shellagent/agenthost/"
    bad = boss.post(f"{path}add/", status=200, agent=agent.pk, host=other.pk, working_directory="work")
    assert "must be absolute" in bad
    boss.post(
        f"{path}add/", agent=agent.pk, host=other.pk, working_directory="/srv", maturity_cap="INTERN", as_default="on"
    )
    link = AgentHost.objects.get(agent=agent, host=other)
    assert (link.is_default, link.working_directory, link.maturity_cap) == (True, "/srv", "INTERN")
    assert not AgentHost.objects.get(agent=agent, host=scene.host).is_default, "there is one default"
    boss.post(f"{path}{link.pk}/change/", working_directory="", maturity_cap="")
    link.refresh_from_db()
    assert (link.is_default, link.working_directory, link.maturity_cap) == (False, "", "")
    boss.post(f"{path}{link.pk}/delete/", post="yes")
    assert not AgentHost.objects.filter(pk=link.pk).exists()
    boss.post(path, action="delete_selected", _selected_action=[row.pk for row in AgentHost.objects.all()], post="yes")
    assert not AgentHost.objects.exists()
    assert len(events("agent_host:deleted")) == 5
    assert len([event for event in events("agent_host:changed") if event.actor_label == "superuser"]) == 2

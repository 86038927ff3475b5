"""Every page in a real browser: nothing breaks the content security policy, nothing is wider than the screen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from governance.policy.types import Maturity
from governance.services import user_party
from shellagent.models import Host, ShellSession
from shellagent.services import killswitch_off, killswitch_on
from tests.browser.conftest import SIZES, Visitor
from tests.browser.showcase import PASSWORD, Showcase, card_of, page_of
from tests.e2e.product import Product

pytestmark = pytest.mark.browser

PAGES = (
    "/admin/",
    "/queue",
    "/queue?category=delete",
    "/code",
    "/admin/governance/approvalterms/",
    "/admin/governance/approvalterms/1/change/",
    "/admin/shellagent/",
    "/admin/shellagent/shellsession/",
    "/admin/shellagent/shellsession/?status__exact=denied",
    "/admin/shellagent/host/",
    "/admin/shellagent/host/1/change/",
    "/admin/shellagent/host/enrol/",
    "/admin/shellagent/agenthost/",
    "/admin/shellagent/agenthost/1/change/",
    "/admin/shellagent/agenthost/add/",
    "/admin/governance/agent/",
    "/admin/governance/agent/1/change/",
    "/admin/governance/agent/add/",
    "/admin/governance/agent/maturity/?agent=1",
    "/admin/governance/matrixrow/",
    "/admin/governance/matrixrow/1/change/",
    "/admin/governance/directoryrow/",
    "/admin/governance/directoryrow/add/",
    "/admin/governance/directoryrow/1/delete/",
    "/admin/governance/policyrule/",
    "/admin/governance/policyrule/add/",
    "/admin/governance/policyversion/",
    "/admin/governance/killswitch/",
    "/admin/governance/promotionproposal/",
    "/admin/governance/promotionproposal/1/change/",
    "/admin/governance/promotionrow/",
    "/admin/governance/demotionrow/",
    "/admin/notifying/callbackplace/",
    "/admin/notifying/callbackplace/add/",
    "/admin/notifying/callbacksecret/",
    "/admin/notifying/message/",
    "/admin/notifying/sink/",
    "/admin/notifying/sink/add/",
    "/admin/notifying/preference/",
    "/admin/audit/auditevent/",
    "/admin/audit/auditevent/1/change/",
    "/admin/auth/user/",
    "/admin/auth/user/1/change/",
    "/admin/auth/user/add/",
    "/admin/auth/group/add/",
    "/admin/axes/accessattempt/",
    "/admin/password_change/",
    "/problems/",
    "/problems/denied",
    "/admin/nothing-here/",
)
API_PAGES = (
    "/api/local-agent/execute",
    "/api/local-agent/approve",
    "/api/local-agent/status",
    "/api/local-agent/sessions",
    "/api/agents",
    "/api/audit/events",
    "/api/agents/1/governance?command=ls",
)


@pytest.fixture(scope="module")
def showcase(web: Product) -> Showcase:
    return Showcase()


@pytest.fixture(params=SIZES)
def visitor(request: pytest.FixtureRequest, web: Product, showcase: Showcase, chromium: Browser) -> Iterator[Visitor]:
    """The administrator, logged in. Nothing may have complained when the test is over."""
    showcase.heartbeat()
    one = Visitor(chromium.new_context(**SIZES[request.param]), web.url)
    one.log_in("admin", PASSWORD)
    yield one
    one.context.close()
    assert not one.complaints


@pytest.fixture
def desktop(web: Product, showcase: Showcase, chromium: Browser) -> Iterator[Visitor]:
    """The same, at desktop size only."""
    one = Visitor(chromium.new_context(**SIZES["desktop"]), web.url)
    one.log_in("admin", PASSWORD)
    yield one
    one.context.close()
    assert not one.complaints


def test_every_page_of_the_admin(visitor: Visitor, showcase: Showcase) -> None:
    sessions = showcase.sessions
    too_wide = {}
    for path in (*PAGES, showcase.same, *map(card_of, sessions), *(page_of(one.pk) for one in sessions)):
        page = visitor.page
        response = page.goto(visitor.url + path)
        assert response is not None
        assert response.status == (404 if "nothing" in path else 200), path
        if visitor.overflow() > 0:
            too_wide[path] = visitor.overflow()
    assert not too_wide


@pytest.fixture
def stopped(showcase: Showcase) -> Iterator[None]:
    """A host is stopped, and every page says so."""
    what: Any = {"actor": user_party(showcase.admin), "host": Host.objects.get(name="staging-2")}
    killswitch_on(reason="Its disk is failing, and backups of it come first.", **what)
    yield
    killswitch_off(reason="It has a new disk.", **what)


@pytest.mark.usefixtures("stopped")
def test_axe_finds_nothing_serious(visitor: Visitor, showcase: Showcase) -> None:
    waiting, grant = card_of(showcase.pending), f"{card_of(showcase.granted)}/grant"
    paths = [
        *("/admin/", "/queue", waiting, f"{waiting}?reject", card_of(showcase.failed), showcase.same),
        *(page_of(showcase.pending.pk), page_of(showcase.succeeded.pk)),
        *(f"/admin/governance/agent/{agent.pk}/change/" for agent in showcase.agents.values()),
        *(f"{grant}/command", f"{grant}/shape", f"{waiting}/grant/command"),
        *("/admin/governance/killswitch/", "/code"),
    ]
    axe, found = Axe(), {}
    every: dict[str, Any] = {"resultTypes": ["violations"]}
    # The dark scheme changes colours and nothing else.
    of_colours = {**every, "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
    schemes: dict[Literal["light", "dark"], dict[str, Any]] = {"light": every, "dark": of_colours}
    for scheme, rules in schemes.items():
        visitor.page.emulate_media(color_scheme=scheme)
        for path in paths:
            page = visitor.go(path)
            expect(page.get_by_role("alert", name="Kill switch")).to_be_visible()
            assert visitor.overflow() <= 0, path
            # The script is evaluated, which the content security policy lets a debugger do.
            violations = axe.run(page, options=rules).response["violations"]
            serious = [one for one in violations if one["impact"] in ("serious", "critical")]
            if serious:
                told = ((one["id"], [node["html"][:120] for node in one["nodes"]]) for one in serious)
                found[scheme, path] = dict(told)
    assert not found, "\n".join(f"{where}: {what}" for where, what in found.items())


def test_a_rule_is_shown_with_what_it_would_have_done(visitor: Visitor, showcase: Showcase) -> None:
    page = visitor.go("/admin/governance/policyrule/add/")
    page.fill("[name=name]", "No listing")
    page.fill("[name=tokens]", "ls|cat")
    page.select_option("[name=outcome]", "deny")
    page.fill("[name=justification]", "Nobody lists these folders.")
    page.fill("[name=examples]", "ls -l /tmp/reports")
    page.fill("[name=refuses]", "du -sh /tmp")
    page.click("[name=_save]")
    expect(page.locator("[aria-labelledby=replay]")).to_contain_text("that were allowed would be denied")
    assert visitor.overflow() <= 0
    visitor.go(f"/admin/governance/policyversion/{showcase.pending.policy_version}/change/")
    expect(visitor.page.locator(".atom-matrix")).to_contain_text("blocked")
    assert visitor.overflow() <= 0


def test_the_pages_of_the_api(visitor: Visitor) -> None:
    for path in API_PAGES:
        expect(visitor.go(path).locator(".response-info")).to_contain_text("HTTP")


def test_screenshots(visitor: Visitor, showcase: Showcase, shots: Path, request: pytest.FixtureRequest) -> None:
    size = "phone" if "phone" in request.node.name else "desktop"
    suffix = "-phone" if size == "phone" else ""
    agent = showcase.agents[Maturity.SUPERVISED].pk
    wanted = {
        "index": "/admin/",
        "approval-queue": "/queue",
        "card": card_of(showcase.pending),
        "card-done": card_of(showcase.failed),
        "same": showcase.same,
        "session": page_of(showcase.pending.pk),
        "result": page_of(showcase.succeeded.pk),
        "agent": f"/admin/governance/agent/{agent}/change/",
        "record": f"/admin/governance/agent/{showcase.agents[Maturity.INTERN].pk}/change/",
        "grant": f"{card_of(showcase.granted)}/grant/shape",
        "host": f"/admin/shellagent/host/{showcase.host.pk}/change/",
        "matrix": "/admin/governance/matrixrow/",
    }
    if size == "phone":
        wanted = {name: wanted[name] for name in ("index", "approval-queue", "card", "card-done", "session")}
    for name, path in wanted.items():
        page = visitor.go(path)
        if size == "desktop":
            # As high as the page: what sticks to the window's edge then reaches to the end.
            page.set_viewport_size({"width": 1280, "height": page.evaluate("document.documentElement.scrollHeight")})
        page.screenshot(path=shots / f"{name}{suffix}.png")
        visitor.fit(size)
        assert (shots / f"{name}{suffix}.png").stat().st_size > 10_000
    if size == "desktop":
        visitor.page.emulate_media(color_scheme="dark")
        visitor.go("/admin/").screenshot(path=shots / "index-dark.png", full_page=True)
    else:
        page = visitor.go(f"{card_of(showcase.pending)}?reject")
        page.screenshot(path=shots / "card-reject-phone.png")
        page.emulate_media(color_scheme="dark")
        visitor.go(card_of(showcase.pending)).screenshot(path=shots / "card-phone-dark.png")


@pytest.mark.usefixtures("stopped")
def test_a_screenshot_of_what_is_stopped(desktop: Visitor, shots: Path) -> None:
    desktop.go("/admin/governance/killswitch/").screenshot(path=shots / "stopped.png")


def test_dark_mode_follows_the_reader(desktop: Visitor) -> None:
    def brightness() -> int:
        value: int = desktop.page.evaluate(
            "getComputedStyle(document.querySelector('.atom-card')).backgroundColor.match(/\\d+/g).map(Number)[0]"
        )
        return value

    assert brightness() > 200
    desktop.page.emulate_media(color_scheme="dark")
    assert brightness() < 60


def test_a_command_asked_and_approved_by_the_forms_of_the_api(
    desktop: Visitor, showcase: Showcase, web: Product
) -> None:
    page = desktop.go("/api/local-agent/execute")
    page.locator("input[name=command]").fill("ls /tmp/by-form")
    page.locator("input[name=agent_id]").fill(str(showcase.agents[Maturity.STUDENT].pk))
    page.locator("#post-object-form, form[enctype]").first.get_by_role("button", name="POST").click()
    expect(page.locator(".response-info")).to_contain_text("HTTP 202")
    session = ShellSession.objects.latest("id")
    assert session.status == "pending"
    other = showcase.ask(Maturity.STUDENT, "ls /tmp/by-form-too")
    for waiting, answer in ((session, "HTTP 403"), (other, "HTTP 200")):
        desktop.go("/api/local-agent/approve")
        page.locator("input[name=session_id]").fill(str(waiting.pk))
        page.locator("#post-object-form, form[enctype]").first.get_by_role("button", name="POST").click()
        expect(page.locator(".response-info")).to_contain_text(answer)
    assert ShellSession.objects.get(pk=other.pk).status == "queued"
    assert ShellSession.objects.get(pk=session.pk).status == "pending", "one's own request"


def test_the_reference_of_the_api_is_read_and_tried_out(desktop: Visitor) -> None:
    page = desktop.go("/api/docs")
    expect(page.locator(".opblock").first).to_be_visible()
    page.locator("#operations-local-agent-status .opblock-summary-control").click()
    block = page.locator("#operations-local-agent-status")
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")


def test_a_key_is_issued_and_shown_once(desktop: Visitor, showcase: Showcase) -> None:
    agent = showcase.agents[Maturity.INTERN]
    page = desktop.go(f"/admin/governance/agent/{agent.pk}/change/")
    page.get_by_label("Where it is used").fill("laptop")
    page.get_by_role("button", name="Issue a key").click()
    key = page.locator(".atom-secret pre").inner_text()
    assert key.startswith("ata_")
    assert key not in page.url
    page.get_by_role("link", name="I have copied it").click()
    assert key not in page.content()
    expect(page.locator(".atom-table", has_text="Expires")).to_contain_text("laptop")


def test_maturity_is_changed_from_the_list_with_a_reason(desktop: Visitor, showcase: Showcase) -> None:
    agent = showcase.agents[Maturity.INTERN]
    page = desktop.go("/admin/governance/agent/")
    page.locator(f"input.action-select[value='{agent.pk}']").check()
    page.locator("select[name=action]").select_option("change_maturity")
    page.get_by_role("button", name="Go").click()
    page.get_by_label("SUPERVISED").check()
    page.get_by_label("Why?").fill("A month without a rejection.")
    page.get_by_role("button", name="Change maturity").click()
    expect(page.locator(".messagelist")).to_contain_text(f"Agent {agent.name} is SUPERVISED now.")


def test_filters_open_and_narrow(visitor: Visitor, showcase: Showcase) -> None:
    page = visitor.go("/admin/shellagent/shellsession/")
    page.locator("#changelist-filter summary", has_text="Status").click()
    page.locator("#changelist-filter").get_by_role("link", name="rejected", exact=True).click()
    expect(page.locator("#result_list tbody tr")).to_have_count(3)
    expect(page.locator("#changelist-filter")).to_contain_text("Status: rejected")

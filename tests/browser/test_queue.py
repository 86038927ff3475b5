"""The queue while it is looked at: what comes is shown by the next look, told of, and decided by the keyboard."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Locator, Page, expect

from audit.trail import SYSTEM
from governance.policy.types import Maturity
from shellagent.models import Approval, ShellSession
from shellagent.services import session_cancel
from tests.browser.conftest import SIZES, Visitor
from tests.browser.showcase import PASSWORD, Showcase, card_of
from tests.e2e.product import Product

pytestmark = pytest.mark.browser

Asked = Callable[[str], ShellSession]
#: How often the page looks, by its own clock. With what an answer takes it has to stay below two seconds.
LOOKS_EVERY_MILLISECONDS = 1000
#: Keeps what the page has the browser show, which nobody sees where there is no screen.
KEEP_NOTICES = """
window.notices = [];
window.Notification = class extends Notification {
  constructor(title, options) {
    super(title, options);
    window.notices.push({ title, body: options.body, tag: options.tag, shown: this });
  }
};
"""


@pytest.fixture(scope="module")
def showcase(web: Product) -> Showcase:
    return Showcase()


@pytest.fixture(params=SIZES)
def visitor(request: pytest.FixtureRequest, web: Product, showcase: Showcase, chromium: Browser) -> Iterator[Visitor]:
    """The administrator at an empty queue. Nothing may have complained when the test is over."""
    ShellSession.objects.filter(status="pending").update(status="expired", expires_at=None)
    showcase.heartbeat()
    one = Visitor(chromium.new_context(**SIZES[request.param]), web.url)
    one.log_in("admin", PASSWORD, "/queue")
    yield one
    one.context.close()
    assert not one.complaints


@pytest.fixture
def ask(showcase: Showcase) -> Asked:
    """Ask for something that a person has to decide on."""
    return partial(showcase.ask, Maturity.STUDENT)


def row_of(page: Page, session: ShellSession) -> Locator:
    return page.locator(f"#session-{session.pk}")


def stands(session: ShellSession) -> str:
    return ShellSession.objects.get(pk=session.pk).status


def with_its_clock_stopped(visitor: Visitor) -> Page:
    """Open the queue; from now on only the test lets the page's time pass."""
    visitor.page.clock.install()
    visitor.page.clock.pause_at(timezone.now() + timedelta(seconds=1))
    return visitor.go("/queue")


def test_what_comes_is_shown_by_the_next_look(visitor: Visitor, ask: Asked) -> None:
    page = with_its_clock_stopped(visitor)
    looks: list[str] = []
    page.on("request", lambda request: looks.append(request.url) if "/queue/now" in request.url else None)
    for number in (1, 2):
        session = ask(f"ls /tmp/{number}")
        page.clock.run_for(LOOKS_EVERY_MILLISECONDS - 1)
        assert len(looks) == number - 1
        page.clock.run_for(1)
        expect(row_of(page, session)).to_be_visible()
        assert len(looks) == number
        expect(page).to_have_title(re.compile(rf"^\({number}\) Queue"))
        expect(page.locator("link[rel=icon]")).to_have_attribute("href", re.compile("^data:image/svg"))


def test_a_clock_that_is_a_day_ahead_counts_down_by_the_servers(visitor: Visitor, ask: Asked) -> None:
    session = ask("ls /tmp")
    visitor.page.clock.install(time=timezone.now() + timedelta(days=1))
    page = visitor.go("/queue")
    left = row_of(page, session).locator("[data-atom-until]")
    page.clock.run_for(2000)
    expect(left).to_have_text(re.compile(r"^1[34]:\d\d$"))
    visitor.go(card_of(session))
    page.clock.run_for(2000)
    expect(page.locator(".atom-left")).to_have_text(re.compile(r"^1[34]:\d\d$"))


def test_keys_choose_open_and_decide(visitor: Visitor, ask: Asked) -> None:
    page = visitor.page
    sessions = [ask(f"ls /tmp/{name}") for name in ("one", "two", "three")]
    one, two, three = (row_of(page, session) for session in sessions)
    expect(three).to_be_visible()
    page.keyboard.press("?")
    expect(page.locator("#queue-help")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("?")
    expect(page.locator("#queue-help")).to_be_hidden()
    for key in ("a", "r", "o", "Enter", "Control+j"):
        page.keyboard.press(key)
    expect(page.locator("[aria-current=true][data-atom-card]")).to_have_count(0)
    for key, row in (("j", one), ("j", two), ("j", three), ("j", three), ("k", two), ("k", one), ("k", one)):
        page.keyboard.press(key)
        expect(row).to_have_attribute("aria-current", "true")
        expect(page.locator("[aria-current=true][data-atom-card]")).to_have_count(1)
    for key in ("o", "Enter"):
        page.keyboard.press("j")
        page.keyboard.press(key)
        page.wait_for_url(f"**{card_of(sessions[1 if key == 'o' else 0])}")
        visitor.go("/queue")
    page.keyboard.press("k")
    expect(three).to_have_attribute("aria-current", "true")
    page.keyboard.press("a")
    expect(page.locator(".messagelist")).to_contain_text("Approved for docs-writer")
    assert [stands(session) for session in sessions] == ["pending", "pending", "queued"]
    page.keyboard.press("j")
    page.keyboard.press("r")
    page.wait_for_url("**/s/*?reject*")
    page.get_by_label("Or in your own words").fill("not now, jk")
    page.get_by_role("button", name="Reject", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("Rejected for docs-writer")
    assert stands(sessions[0]) == "rejected"
    assert Approval.objects.get(session=sessions[0]).reason == "not now, jk"


def test_the_browser_tells_of_what_comes_where_that_is_wanted(visitor: Visitor, ask: Asked, settings: Any) -> None:
    settings.ATOM_PENDING_PER_AGENT = 100
    visitor.context.grant_permissions(["notifications"], origin=visitor.url)
    visitor.page.add_init_script(KEEP_NOTICES)
    page = with_its_clock_stopped(visitor)

    def told() -> list[dict[str, str]]:
        found: list[dict[str, str]] = page.evaluate("notices.map(({ title, body, tag }) => ({ title, body, tag }))")
        return found

    def comes(*commands: str, is_shown: bool = True) -> list[ShellSession]:
        asked = [ask(command) for command in commands]
        page.clock.run_for(LOOKS_EVERY_MILLISECONDS)
        waiting = ShellSession.objects.filter(status="pending").count()
        expect(page.locator("#queue-count")).to_have_text(str(waiting))
        if is_shown:
            expect(row_of(page, asked[-1])).to_be_visible()
        return asked

    bell = page.locator("[data-atom-bell]")
    expect(bell).to_have_text("Notify me")
    comes("ls /tmp/before")
    assert told() == []
    bell.click()
    expect(bell).to_have_text("Notifications on")
    (session,) = comes("cat /tmp/in-no-notice")
    (notice,) = told()
    assert notice["body"] == "docs-writer asks for a read command on build-7."
    assert notice["tag"] == f"session-{session.pk}"
    comes("ls /tmp/two", "ls /tmp/three")
    assert told()[1]["body"] == "2 new requests wait for a decision."
    assert "in-no-notice" not in str(told())
    bell.click()
    expect(bell).to_have_text("Notify me")
    comes("ls /tmp/four")
    assert len(told()) == 2
    bell.click()
    # Behind the first page others come too; and what moves up from there is not new.
    comes(*(f"ls /tmp/{number}" for number in range(25)), is_shown=False)
    comes("ls /tmp/on-the-next-page", is_shown=False)
    assert [notice["body"] for notice in told()[2:]] == ["New requests wait for a decision."] * 2
    rows = page.locator("[data-atom-card]")
    expect(rows).to_have_count(25)
    shown = rows.last.get_attribute("id")
    session_cancel(session=session, actor=SYSTEM)
    page.clock.run_for(LOOKS_EVERY_MILLISECONDS)
    expect(rows.last).not_to_have_id(str(shown))
    assert len(told()) == 4
    page.evaluate("notices[0].shown.dispatchEvent(new Event('click'))")
    page.wait_for_url(f"**{card_of(session)}")

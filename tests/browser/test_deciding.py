"""A person logs in and decides; the real host then runs it, or does not."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import SIZES, Visitor
from tests.e2e.product import Product

pytestmark = pytest.mark.browser


@pytest.fixture(params=SIZES)
def admin(request: pytest.FixtureRequest, product: Product, chromium: Browser) -> Iterator[Visitor]:
    """The administrator's browser, not logged in yet. Nothing may have complained when the test is over."""
    visitor = Visitor(chromium.new_context(**SIZES[request.param]), product.url)
    yield visitor
    visitor.context.close()
    assert not visitor.complaints


def asked(product: Product, command: str = "ls /tmp") -> dict[str, str]:
    """Return a session that waits for a person."""
    answer = product.execute("student", command, wait=0, reason="I need to see what is there.")
    assert answer.status_code == 202, answer.text
    session: dict[str, str] = answer.json()
    assert session["status"] == "pending"
    return session


def log_in(visitor: Visitor, product: Product, path: str = "/admin/") -> None:
    visitor.log_in(product.admin["username"], product.admin["password"], path)


def test_decides_in_one_tap_after_the_login_and_sees_it_run(product: Product, admin: Visitor) -> None:
    session = asked(product)
    log_in(admin, product, session["approve_url"].removeprefix(product.url))
    page = admin.page
    expect(page.locator(".atom-plan")).to_contain_text("ls /tmp")
    expect(page.locator(".atom-claim")).to_contain_text("Unverified, the agent")
    for button in (page.get_by_role("button", name="Approve"), page.locator("#reject > summary")):
        box = button.bounding_box()
        assert box is not None
        assert min(box["height"], box["width"]) >= 44
        height: int = page.evaluate("window.innerHeight")
        assert box["y"] + box["height"] <= height, "at the bottom of the screen, not below it"
    page.get_by_role("button", name="Approve").click()
    expect(page.locator(".messagelist")).to_contain_text("Approved for demo-student")
    # Nobody loads the page again: it follows by itself.
    expect(page.locator("#card-state")).to_contain_text("succeeded")
    expect(page.locator(".atom-exit")).to_have_text("0")
    assert page.url == session["approve_url"]
    assert admin.overflow() <= 0


def test_rejects_in_two_taps_with_a_reason_for_the_agent(product: Product, admin: Visitor) -> None:
    session = asked(product)
    log_in(admin, product, session["approve_url"].removeprefix(product.url))
    page = admin.page
    page.locator("#reject > summary").click()
    expect(page.get_by_role("button", name="Approve")).to_be_hidden()
    page.get_by_role("button", name="Look first.").click()
    expect(page.locator(".messagelist")).to_contain_text("Rejected for demo-student")
    shown = product.session(session["id"], "student")
    assert (shown["status"], shown["next_action"]) == ("rejected", "revise")
    assert shown["approval"]["reason"].startswith("Look first.")


def test_decides_without_javascript(product: Product, chromium: Browser) -> None:
    session, other = asked(product), asked(product, "ls /var")
    visitor = Visitor(chromium.new_context(java_script_enabled=False), product.url)
    log_in(visitor, product, "/queue")
    page = visitor.page
    page.locator(f"#session-{session['id']}").get_by_role("button", name="Approve").click()
    expect(page.locator(".messagelist")).to_contain_text("Approved for demo-student")
    page.locator(f"#session-{other['id']}").get_by_role("link", name="Reject…").click()
    page.get_by_role("button", name="Do not do this.").click()
    expect(page.locator(".messagelist")).to_contain_text("Rejected for demo-student")
    product.until(session["id"], "succeeded")
    assert product.session(other["id"], "student")["approval"]["reason"] == "Do not do this. Go on without it."
    visitor.context.close()

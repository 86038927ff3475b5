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


def test_approves_on_the_first_page_and_it_runs(product: Product, admin: Visitor) -> None:
    session = asked(product)
    log_in(admin, product)
    card = admin.page.locator(f"#session-{session['id']}")
    expect(card).to_contain_text("ls /tmp")
    expect(card).to_contain_text("Unverified, the agent")
    card.get_by_role("button", name="Approve").click()
    expect(admin.page.locator(".messagelist")).to_contain_text("Approved for demo-student")
    expect(card).to_have_count(0)
    product.until(session["id"], "succeeded")
    page = admin.go(session["approve_url"])
    expect(page.locator(".atom-hero .atom-badge").first).to_have_text("succeeded")
    expect(page.locator(".atom-timeline")).to_contain_text("session:succeeded")
    expect(page.get_by_role("heading", name="Approved")).to_be_visible()
    assert admin.overflow() <= 0


def test_follows_the_link_and_rejects_with_a_reason(product: Product, admin: Visitor) -> None:
    session = asked(product)
    log_in(admin, product, session["approve_url"].removeprefix(product.url))
    page = admin.page
    page.get_by_role("button", name="Reject").click()
    assert product.session(session["id"], "student")["status"] == "pending", "a reason is required"
    page.get_by_label("Reason to reject").fill("Look into /srv instead.")
    page.get_by_role("button", name="Reject").click()
    expect(page.locator(".messagelist")).to_contain_text("Rejected for demo-student")
    shown = product.session(session["id"], "student")
    assert (shown["status"], shown["next_action"]) == ("rejected", "revise")
    assert shown["approval"]["reason"] == "Look into /srv instead."


def test_rejects_in_the_row(product: Product, admin: Visitor) -> None:
    session = asked(product)
    log_in(admin, product, "/admin/shellagent/shellsession/")
    card = admin.page.locator(f"#session-{session['id']}")
    card.get_by_text("Reject…").click()
    card.get_by_label("Why?").fill("not now")
    card.get_by_role("button", name="Reject", exact=True).click()
    expect(admin.page.locator(".messagelist")).to_contain_text("Rejected for demo-student")
    assert product.session(session["id"], "student")["status"] == "rejected"


def test_buttons_fit_a_thumb(product: Product, admin: Visitor) -> None:
    session = asked(product)
    log_in(admin, product)
    card = admin.page.locator(f"#session-{session['id']}")
    for button in (card.get_by_role("button", name="Approve"), card.get_by_text("Reject…")):
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert box["width"] >= 44


def test_approves_without_javascript(product: Product, chromium: Browser) -> None:
    session = asked(product)
    visitor = Visitor(chromium.new_context(java_script_enabled=False), product.url)
    log_in(visitor, product)
    visitor.page.locator(f"#session-{session['id']}").get_by_role("button", name="Approve").click()
    expect(visitor.page.locator(".messagelist")).to_contain_text("Approved for demo-student")
    product.until(session["id"], "succeeded")
    visitor.context.close()

"""A person follows the output of a command that runs, and sees no secret in it."""

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import SIZES, Visitor
from tests.e2e.product import Product

pytestmark = pytest.mark.browser


def test_output_comes_while_it_runs(product: Product, chromium: Browser) -> None:
    visitor = Visitor(chromium.new_context(**SIZES["desktop"]), product.url)
    page = visitor.page
    visitor.log_in(product.admin["username"], product.admin["password"])
    command = "echo one && sleep 5 && echo password=hunter2222 && sleep 2"
    session = product.run("autonomous", command, wait=0)
    product.until(session["id"], "running")
    visitor.go(f"/admin/shellagent/shellsession/{session['id']}/change/")
    block = page.locator("[data-atom-stream=stdout]")
    expect(block).to_have_text("one\n")
    expect(block).to_have_text("one\npassword=**********\n")
    expect(page.locator("[data-atom-bytes=stdout]")).to_have_text("24")
    # At its end the page loads itself anew.
    expect(page.locator(".atom-hero .atom-badge").first).to_have_text("succeeded")
    expect(page.get_by_text("Secrets were masked")).to_contain_text("assignment 1 times")
    expect(page.locator(".atom-block")).to_have_text("one\npassword=**********\n")
    visitor.context.close()
    assert not visitor.complaints

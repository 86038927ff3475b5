"""A real browser: Debian's Chromium, driven by Playwright, at desktop and at phone size."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from shellagent import wake
from tests.database import cloned
from tests.e2e.conftest import product
from tests.e2e.product import Product

__all__ = ["product"]

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
SIZES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "is_mobile": True,
        "has_touch": True,
        "device_scale_factor": 2,
    },
}


@dataclass
class Visitor:
    """A browser of one person: its page, and what its console complained of."""

    context: BrowserContext
    url: str

    def __post_init__(self) -> None:
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.complaints: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"{self.page.url}: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        # A page that answers 404 or 405 is a page all the same, and the console tells of it.
        is_answer = message.text.startswith("Failed to load resource") and message.location["url"] == self.page.url
        if message.type in ("error", "warning") and not is_answer:
            self.complaints.append(f"{self.page.url}: {message.text}")

    def log_in(self, username: str, password: str, path: str = "/admin/") -> None:
        """Open a page, log in where it asks, and be on the page."""
        self.page.goto(self.url + path)
        self.page.get_by_label("Username").fill(username)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(self.url + path)

    def go(self, path: str) -> Page:
        """Open a page."""
        self.page.goto(path if path.startswith("http") else self.url + path)
        return self.page

    def fit(self, size: str) -> None:
        """Give the window its size again."""
        self.page.set_viewport_size(SIZES[size]["viewport"])

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the screen."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return width


@pytest.fixture(scope="module", autouse=True)
def chromium(django_db_setup: None) -> Iterator[Browser]:
    """The browser, before anything else of a module.

    Playwright keeps an event loop on this thread. Django takes what runs under it for asynchronous code, and gives it
    database connections of its own: those from before are closed first, and these at the end.
    """
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is missing: apt-get install chromium")
    connections.close_all()
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            yield browser
            browser.close()
            connections.close_all()
    finally:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where screenshots go: `ATOM_SCREENSHOTS=docs/images` renews those of the documentation."""
    folder = Path(os.environ.get("ATOM_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def web(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Only the web server of the product, on an empty database of its own."""
    folder = tmp_path_factory.mktemp("web")
    with django_db_blocker.unblock(), cloned(folder) as database, pytest.MonkeyPatch.context() as patch:
        # The server listens to PostgreSQL; a thread of this process that did too would outlive the database.
        patch.setattr(wake, "_listen", lambda: None)
        running = Product(database, folder)
        try:
            running.start_web()
            yield running
        finally:
            running.end()

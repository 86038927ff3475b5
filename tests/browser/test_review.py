"""Reviewing in a real browser: the trail with its days, a session's story, its replay and its erasure."""

from collections.abc import Iterator
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, expect

from audit.counting import days_count
from audit.models import AuditDay, AuditErasure, AuditPayload
from governance.policy.types import Maturity
from shellagent import protocol
from shellagent.models import Host, ShellSession
from shellagent.protocol import OutputSegment, StreamTotal
from shellagent.services import (
    erasure_decide,
    erasure_request,
    host_poll,
    output_append,
    session_approve,
    sessions_record,
    sessions_start,
)
from tests.browser.conftest import SIZES, Visitor
from tests.browser.showcase import FACTS, PASSWORD, PROTECTIONS, Showcase, page_of, superuser
from tests.e2e.product import Product
from tests.shellagent.scene import INSTANCE, poll_request, report

pytestmark = pytest.mark.browser

PIECES = (
    (300, "stdout", "collected 212 items\n\n"),
    (2100, "stdout", "tests/test_dates.py ........................ [ 41%]\n"),
    (4000, "stderr", "warning: the cache is 3 days old\n"),
    (6200, "stdout", "tests/test_totals.py ....................... [100%]\n\n212 passed in 6.02s\n"),
)
#: Has asciinema's player play a recording and resolves at its end, with how long it takes and what the terminal shows.
PLAY = """recording => new Promise((resolve, reject) => {
    const element = document.getElementById("player")
    const player = AsciinemaPlayer.create({data: recording}, element, {speed: 8, autoPlay: true, controls: false})
    player.addEventListener("error", event => reject(new Error(JSON.stringify(event))))
    player.addEventListener("ended", () => requestAnimationFrame(() => requestAnimationFrame(() => resolve(
        {seconds: player.getDuration(), text: element.innerText}))))
})"""


class Review(Showcase):
    """The showcase, with a session that was approved and printed in pieces, one that was erased, and days before."""

    def __init__(self) -> None:
        super().__init__()
        self.other = superuser("grace")
        session = self.ask(
            Maturity.SUPERVISED, "pytest -q tests", reason="The totals changed; I want to see them pass."
        )
        session_approve(session=session, approver=self.other, reason="Tests only read.", address="198.51.100.24")
        self.told = self._run_in_pieces(session)
        self._erase()
        self._days()

    def _run_in_pieces(self, session: ShellSession) -> ShellSession:
        host = Host.objects.get(pk=self.host.pk)
        host_poll(host=host, request=poll_request(facts=FACTS, protections=PROTECTIONS, version="0.1.0"))
        digest = ShellSession.objects.get(pk=session.pk).digest
        start = protocol.Start(str(session.pk), "start-told", digest)
        sessions_start(host=host, request=protocol.StartRequest(protocol.VERSION, INSTANCE, (start,)))
        ends = {"stdout": 0, "stderr": 0}
        begun = ShellSession.objects.get(pk=session.pk)
        assert begun.started_at
        for after_ms, stream, text in PIECES:
            piece = OutputSegment.of(stream, ends[stream], text.encode())
            request = protocol.OutputRequest(protocol.VERSION, "start-told", (piece,))
            output_append(host=host, session_id=session.pk, request=request)
            # As if the time between them had passed.
            AuditPayload.objects.filter(session_id=session.pk, kind=stream, offset=ends[stream]).update(
                created_at=begun.started_at + timedelta(milliseconds=after_ms)
            )
            ends[stream] += len(text.encode())
        totals: dict[str, Any] = {stream: StreamTotal(size, "a" * 64, False) for stream, size in ends.items()}
        result = report(begun, output=(), duration_us=6_204_000, protections=PROTECTIONS, **totals)
        sessions_record(host=host, request=protocol.RecordRequest(protocol.VERSION, INSTANCE, (result,)))
        return ShellSession.objects.get(pk=session.pk)

    def _erase(self) -> None:
        wish = erasure_request(
            session=self.succeeded,
            part=AuditErasure.Part.OUTPUT,
            reason="It listed the name of a customer.",
            user=self.admin,
        )
        erasure_decide(erasure=wish, user=self.other, confirms=True)

    def _days(self) -> None:
        days_count(timezone.now())
        today = timezone.localdate()
        for ago in range(1, 30):
            numbers = {
                "session:succeeded": 30 + ago * 7 % 23,
                "session:failed": ago * 5 % 9,
                "session:denied": ago * 3 % 7,
                "session:claimed": 40,
            }
            AuditDay.objects.bulk_create(
                AuditDay(day=today - timedelta(days=ago), tag=tag, count=count, first_id=1, last_id=1, is_final=True)
                for tag, count in numbers.items()
            )


@pytest.fixture(scope="module")
def review(web: Product) -> Review:
    return Review()


@pytest.fixture(params=SIZES)
def visitor(request: pytest.FixtureRequest, web: Product, review: Review, chromium: Browser) -> Iterator[Visitor]:
    """The administrator, logged in. Nothing may have complained when the test is over."""
    review.heartbeat()
    one = Visitor(chromium.new_context(**SIZES[request.param]), web.url)
    one.log_in("admin", PASSWORD)
    yield one
    one.context.close()
    assert not one.complaints


def story_of(session: ShellSession) -> str:
    return page_of(session.pk).replace("/change/", "/story/")


def test_the_story_is_told_and_replayed(visitor: Visitor, review: Review) -> None:
    page = visitor.go(story_of(review.told))
    expect(page.locator(".atom-timeline")).to_contain_text("grace approved it")
    frames = page.locator(".atom-frame")
    expect(frames).to_have_count(len(PIECES))
    expect(frames.last).to_be_visible()
    page.locator("input[type=range]").fill("300")
    expect(frames.first).to_be_visible()
    expect(frames.last).to_be_hidden()
    page.get_by_label("Speed").select_option("16")
    page.get_by_role("button", name="Replay").click()
    expect(frames.last).to_be_visible()
    assert visitor.overflow() <= 0


def test_without_a_script_all_of_it_is_there(review: Review, web: Product, chromium: Browser) -> None:
    one = Visitor(chromium.new_context(**SIZES["desktop"], java_script_enabled=False), web.url)
    one.log_in("admin", PASSWORD)
    page = one.go(story_of(review.told))
    expect(page.locator(".atom-frame").last).to_be_visible()
    expect(page.get_by_role("button", name="Replay")).to_have_count(0)
    one.context.close()


def test_asciinemas_player_plays_the_recording(review: Review, web: Product, chromium: Browser) -> None:
    one = Visitor(chromium.new_context(**SIZES["desktop"]), web.url)
    one.log_in("admin", PASSWORD)
    answer = one.context.request.get(f"{web.url}/api/audit/export?format=asciicast&session={review.told.pk}")
    page, player = chromium.new_page(), files("mkdocs_asciinema_player") / "assets"
    page.set_content('<div id="player"></div>')
    page.add_style_tag(content=(player / "asciinema-player.css").read_text())
    page.add_script_tag(content=(player / "asciinema-player.min.js").read_text())
    played = page.evaluate(PLAY, answer.text())
    assert round(played["seconds"], 1) >= PIECES[-1][0] / 1000
    shown = [line.rstrip() for line in played["text"].splitlines() if line.strip()]
    assert shown == [line for _at, _stream, text in PIECES for line in text.splitlines() if line]
    page.close()
    one.context.close()


def test_what_was_erased_says_so(visitor: Visitor, review: Review) -> None:
    for path in (page_of(review.succeeded.pk), story_of(review.succeeded)):
        expect(visitor.go(path).locator(".atom-hint").first).to_contain_text("by grace, asked for by admin")
        assert visitor.overflow() <= 0
    page = visitor.go(page_of(review.failed.pk))
    page.get_by_text("Ask to erase what is stored").click()
    expect(page.get_by_role("button", name="Ask for it")).to_be_visible()
    assert visitor.overflow() <= 0


def test_the_trail_is_narrowed_by_a_day_and_an_agent(visitor: Visitor, review: Review) -> None:
    page = visitor.go("/admin/audit/auditevent/")
    expect(page.locator(".atom-chart a")).to_have_count(30)
    page.locator("#changelist-filter summary", has_text="Agent").first.click()
    page.locator("#changelist-filter").get_by_role("link", name="code-reviewer", exact=True).click()
    expect(page.locator("#result_list")).to_contain_text("grace approved it")
    assert "docs-writer" not in page.locator("#result_list").inner_text()
    page.get_by_label("From").fill("2020-01-01")
    page.get_by_label("to", exact=True).fill("2020-01-02")
    page.get_by_role("button", name="Show these days").click()
    expect(page.locator(".atom-empty")).to_contain_text("Nothing matches")
    assert visitor.overflow() <= 0


def test_screenshots(visitor: Visitor, review: Review, shots: Path, request: pytest.FixtureRequest) -> None:
    is_phone = "phone" in request.node.name
    for name, path in {"story": story_of(review.told), "trail": "/admin/audit/auditevent/"}.items():
        for scheme in ("light", "dark"):
            visitor.page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
            page = visitor.go(path)
            suffix = ("-phone" if is_phone else "") + ("-dark" if scheme == "dark" else "")
            file = shots / f"{name}{suffix}.png"
            page.screenshot(path=file, full_page=name == "story")
            assert file.stat().st_size > 10_000

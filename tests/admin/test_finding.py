"""Finding sessions by words and by approver, events by who they are about, and counting days."""

import re

from django.contrib.auth.models import User
from django.utils import timezone

from audit.counting import days_count
from audit.models import AuditDay
from governance.policy.types import Maturity
from shellagent.services import session_approve
from tests.admin.conftest import Reader
from tests.shellagent.scene import ASKED, Scene

SESSIONS, TRAIL = "/admin/shellagent/shellsession/", "/admin/audit/auditevent/"


def test_sessions_are_found_by_words_and_by_approver(scene: Scene, boss: Reader, approver: User) -> None:
    session_approve(session=scene.session(ASKED, reason='A "quoted" reason'), approver=approver)
    scene.session((Maturity.AUTONOMOUS, "ls /var"))
    assert "/var" not in boss.get(f"{SESSIONS}?q=%22QUOTED%22")
    assert "/tmp" in boss.get(f"{SESSIONS}?q=%22QUOTED%22")  # noqa: S108 - a path in a page
    assert "Nothing matches" in boss.get(f"{SESSIONS}?q=nowhere+at+all")
    assert "/var" not in boss.get(f"{SESSIONS}?approver={approver.pk}")
    html = boss.get(f"{TRAIL}?approver={approver.pk}")
    assert re.findall(r'<code class="atom-tag">([a-z_:]+)</code>', html) == ["session:queued"]
    assert "session:queued" in boss.get(f"{TRAIL}?agent={scene.agents[Maturity.STUDENT].pk}&category=read")


def test_days_are_counted_again_until_they_are_over(scene: Scene, boss: Reader) -> None:
    assert "Nothing is counted yet" in boss.get(TRAIL)
    now = timezone.now()
    for _ in range(2):
        scene.session(ASKED)
        assert days_count(now) == 1
    row = AuditDay.objects.get(tag="session:pending")
    assert (row.count, row.is_final, row.first_id < row.last_id) == (2, False, True)
    today = timezone.localdate(now)
    html = boss.get(f"{TRAIL}?from_day={today}&to_day={today}&tag=session:pending")
    assert html.count('class="field-when') == 2
    assert "atom-chart" in html
    assert "Nothing matches" in boss.get(f"{TRAIL}?to_day=2020-01-01")
    assert boss.client.get(f"{TRAIL}?from_day=yesterday").status_code == 302

"""The first page, who sees which section, logins, and the error pages."""

import re
from html import unescape

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client

from audit.trail import SYSTEM
from shellagent.links import SessionConverter
from shellagent.services import enrolment_issue
from tests.admin.conftest import Reader, staff
from tests.conftest import person
from tests.shellagent.scene import ALLOWED, ASKED, DENIED, Scene


def sections(html: str) -> set[str]:
    return set(re.findall(r'href="/admin/\w+/(\w+)/"', html))


@pytest.mark.parametrize(
    ("permissions", "seen"),
    [
        ((), set()),
        (("shellagent.approve",), {"shellsession", "preference"}),
        (("shellagent.view_shellsession",), {"shellsession"}),
        (("shellagent.control_host",), {"host", "killswitch"}),
        (("shellagent.view_host",), {"host"}),
        (("governance.view_agent",), {"agent"}),
        (
            ("governance.edit_policy",),
            {
                *("approvalterms", "matrixrow", "directoryrow", "policyrule", "policyversion"),
                *("promotionrow", "demotionrow"),
            },
        ),
        (("audit.view_audit",), {"auditevent"}),
        (("auth.view_user", "auth.change_user", "auth.add_group"), set()),
        (("django_q.add_schedule", "django_q.view_schedule", "axes.view_accessattempt"), set()),
    ],
)
def test_sections_are_seen_by_who_may(db: None, permissions: tuple[str, ...], seen: set[str]) -> None:
    assert sections(staff("somebody", *permissions).get("/admin/")) == seen


def test_a_superuser_sees_every_section_and_no_queue_of_functions(boss: Reader) -> None:
    assert sections(boss.get("/admin/")) == {
        *("shellsession", "host", "agenthost", "agent", "matrixrow", "directoryrow", "policyrule"),
        *("policyversion", "auditevent", "user", "group", "accessattempt", "approvalterms", "killswitch"),
        *("promotionrow", "promotionproposal", "demotionrow"),
        *("sink", "message", "preference", "callbackplace", "callbacksecret"),
    }
    assert not [model for model in admin.site._registry if model._meta.app_label == "django_q"]
    boss.get("/admin/django_q/schedule/", status=404)
    boss.get("/admin/auth/user/")
    boss.get(f"/admin/auth/user/{boss.user.pk}/change/")
    boss.get("/admin/axes/accessattempt/")
    boss.get("/admin/axes/accessattempt/add/", status=403)


def test_whoever_may_edit_users_by_permission_still_may_not(db: None) -> None:
    keeper = staff("keeper", "auth.view_user", "auth.change_user", "auth.add_user", "auth.change_group")
    keeper.get("/admin/auth/user/", status=403)
    keeper.get(f"/admin/auth/user/{keeper.user.pk}/change/", status=403)
    keeper.post(f"/admin/auth/user/{keeper.user.pk}/change/", status=403, is_superuser="on")
    keeper.post(f"/admin/auth/user/{keeper.user.pk}/password/", status=403, password1="x", password2="x")
    keeper.get("/admin/auth/group/add/", status=403)


def test_an_empty_product_says_what_to_do(boss: Reader) -> None:
    html = boss.get("/admin/")
    assert "No host is enrolled yet" in html
    assert "/admin/shellagent/host/enrol/" in html
    enrolment_issue(name="first", actor=SYSTEM)
    assert "No agent is registered yet" in boss.get("/admin/")
    assert "No agent yet." in boss.get("/admin/governance/agent/")
    assert "so nothing can run" in boss.get("/admin/shellagent/agenthost/")
    assert "Nothing yet." in boss.get("/admin/shellagent/shellsession/")


def test_the_first_page_shows_what_waits_runs_and_lives(scene: Scene, boss: Reader) -> None:
    assert "Nothing waits for you" in boss.get("/admin/")
    waiting, queued, denied = scene.session(ASKED), scene.session(ALLOWED), scene.session(DENIED)
    html = boss.get("/admin/")
    order = [html.index(f"session-{waiting.pk}"), *(html.index(f"{one.pk}/change") for one in (queued, denied))]
    assert order == sorted(order)
    assert "<title>(1) Now" in html
    assert 'atom-is-online">online' in html


def test_no_page_holds_inline_script_or_style(scene: Scene, boss: Reader) -> None:
    session = scene.session(ASKED)
    paths = [
        "/admin/",
        "/admin/shellagent/shellsession/",
        "/queue",
        "/code",
        f"/s/{SessionConverter().to_url(session.pk)}",
        f"/queue/same/{session.digest}",
        f"/admin/shellagent/shellsession/{session.pk}/change/",
        "/admin/governance/agent/",
        "/admin/governance/agent/1/change/",
        "/admin/governance/matrixrow/",
        "/admin/shellagent/host/",
        "/admin/audit/auditevent/",
        "/admin/auth/user/add/",
        "/admin/axes/accessattempt/",
        "/problems/",
        "/api/docs",
    ]
    for path in paths:
        html = boss.client.get(path, follow=True).content.decode()
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\bsrc=)", html), path


@pytest.mark.parametrize("model", list(admin.site._registry), ids=lambda model: str(model._meta.label_lower))
def test_every_list_is_searched_and_narrowed(scene: Scene, boss: Reader, model: type[Model]) -> None:
    scene.session(ASKED)
    path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    html = boss.get(path)
    assert f"model-{model._meta.model_name}" in html
    links = ["?q=a", *map(unescape, re.findall(r'href="(\?[^"]+)"', html))]
    # One of those that differ in nothing but a value.
    for query in {re.sub(r"=[^&]*", "", link): link for link in links}.values():
        assert f"model-{model._meta.model_name}" in boss.get(path + query), query


@pytest.mark.django_db
def test_too_many_failed_logins_lock_out_with_a_page_that_says_so(outsider: User) -> None:
    client = Client()
    for _ in range(10):
        response = client.post("/admin/login/", {"username": "outsider", "password": "wrong"})
    assert response.status_code == 429
    html = response.content.decode()
    assert "Locked out for a while" in html
    assert "for 15 minutes" in html
    assert "axes_reset" in html
    right = {"username": "outsider", "password": "password of outsider"}
    assert client.post("/admin/login/", right).status_code == 429
    boss = Reader(person("another", is_superuser=True))
    assert "outsider" in boss.get("/admin/axes/accessattempt/")


def test_a_page_that_is_not_permitted_says_so(nobody: Reader) -> None:
    assert "You may not see or do this" in nobody.get("/admin/audit/auditevent/", status=403)


def test_someone_who_is_not_staff_is_sent_to_the_login(db: None) -> None:
    client = Client()
    client.force_login(User.objects.create_user("visitor"))
    assert client.get("/admin/")["Location"].startswith("/admin/login/")
    assert client.get("/admin/shellagent/host/enrol/")["Location"].startswith("/admin/login/")

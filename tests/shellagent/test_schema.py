"""The schema is true: schemathesis calls every operation in three roles, and each answer is one the schema knows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from governance.policy.types import Maturity
from shellagent import limits, protocol
from shellagent.models import ShellSession
from shellagent.schema import message
from tests.conftest import person
from tests.shellagent.scene import ASKED, Scene, poll_request

pytestmark = pytest.mark.e2e

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 4
CSRF = "c" * 32


@pytest.fixture
def described(scene: Scene, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Any]:
    """The API's own description, with nobody waiting and no agent throttled."""
    monkeypatch.setattr(limits, "POLL_HOLD_SECONDS", 0)
    settings.ATOM_WAITS_TOTAL = 0
    settings.ATOM_EXECUTE_PER_MINUTE = 10**6
    # The end of a request would close the connection that holds this test's transaction.
    both = (request_started, request_finished)
    for signal in both:
        signal.disconnect(close_old_connections)
    yield schemathesis.openapi.from_wsgi("/api/schema?format=json", get_wsgi_application())
    for signal in both:
        signal.connect(close_old_connections)


def headers_of(role: str, scene: Scene) -> dict[str, str]:
    if role == "agent":
        return {"Authorization": f"Bearer {scene.keys[Maturity.SUPERVISED]}"}
    if role == "host":
        return {"Authorization": f"Bearer {scene.host_key}"}
    return {"X-CSRFToken": CSRF}


def cookies_of(role: str) -> dict[str, str]:
    if role != "person":
        return {}
    client = APIClient()
    client.force_login(person("schemer", is_superuser=True))
    return {"sessionid": client.cookies["sessionid"].value, "csrftoken": CSRF}


def with_real_ids(case: Any, scene: Scene, session: ShellSession) -> None:
    """Put what exists where the case names something, so that not every answer is 404."""
    real = {
        "session_id": str(session.pk),
        "agent_id": scene.agents[Maturity.SUPERVISED].pk,
        "host": scene.host.name,
        "instance_id": "instance-1",
        "digest": session.digest,
        "v": protocol.VERSION,
        "start_key": "start-1",
    }
    for place in (case.path_parameters, case.body):
        if isinstance(place, dict):
            place.update({name: value for name, value in real.items() if name in place})
            for items in (place.get("starts"), place.get("records")):
                for item in items if isinstance(items, list) else ():
                    if isinstance(item, dict):
                        item.update({"id": str(session.pk), "digest": session.digest, "start_key": "start-1"})


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["sound", "unsound"])
@pytest.mark.parametrize("role", ["agent", "host", "person"])
def test_every_answer_is_in_the_schema(described: Any, scene: Scene, role: str, mode: GenerationMode) -> None:
    session = scene.running()
    scene.session(ASKED)
    caller = {"headers": headers_of(role, scene), "cookies": cookies_of(role)}
    statuses: set[int] = set()
    for found in described.get_all_operations():
        operation = found.ok()
        if operation.path != "/api/schema":
            ask(operation, mode, caller=caller, scene=scene, session=session, statuses=statuses)
    assert statuses & {400, 401, 403, 404}
    if mode is GenerationMode.POSITIVE:
        assert 200 in statuses


def ask(
    operation: Any,
    mode: GenerationMode,
    *,
    caller: dict[str, dict[str, str]],
    scene: Scene,
    session: ShellSession,
    statuses: set[int],
) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), is_real=st.booleans())
    def each(case: Any, is_real: bool) -> None:
        if is_real:
            with_real_ids(case, scene, session)
        # Instead of the key that schemathesis makes up from the description.
        case.headers.pop("Authorization", None)
        with transaction.atomic():
            response = case.call(**caller)
            transaction.set_rollback(True)
        statuses.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    each()


def test_the_schema_is_valid_and_made_without_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "schema.yml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(file))
    assert "application/problem+json" in file.read_text()


def test_a_message_is_described_as_it_is_read() -> None:
    described = message(protocol.PollRequest)
    said = protocol.encode(poll_request())
    assert set(described["properties"]) == set(said)
    assert set(described["required"]) == set(said) - {"hold_seconds", "time_us", "last_error", "looked", "start_key"}
    for name in described["required"]:
        with pytest.raises(protocol.ProtocolError, match=name):
            protocol.decode(protocol.PollRequest, {key: value for key, value in said.items() if key != name})
    grants = message(protocol.StartAnswer)["properties"]["grants"]
    assert grants["items"]["properties"]["status"]["enum"] == [item.value for item in protocol.GrantStatus]


def test_the_readable_page_loads_nothing_from_elsewhere(client: Any, db: None) -> None:
    answer = client.get("/api/docs")
    assert answer.status_code == 200
    assert "http" not in answer.content.decode().replace("http-equiv", "").replace("https://localhost", "")
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]

"""What a run may be told."""

import pytest

from faults.options import parse


def test_the_server_is_used_and_not_the_database_that_a_test_run_is_named_after() -> None:
    options = parse(["--postgres-url", "postgresql://me@127.0.0.1:5433/atom_ci_7?sslmode=disable"])
    assert options.postgres_url == "postgresql://me@127.0.0.1:5433/postgres?sslmode=disable"


@pytest.mark.parametrize("wrong", [["--sessions", "-1"], ["--minutes", "-2"], ["--database", "oracle"], ["--what"]])
def test_what_cannot_be_understood_is_64(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(wrong)
    assert caught.value.code == 64
    assert "usage" in "".join(capsys.readouterr())

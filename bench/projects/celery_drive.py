"""The client of the Celery peer."""

from bench.projects import lines
from bench.projects.celery_app import task

RESULT_SECONDS = 30.0


def _one() -> None:
    code = task.delay().get(timeout=RESULT_SECONDS)
    if code != "0":
        raise RuntimeError(f"the task's result is {code!r}")


def _many(count: int) -> None:
    # Asking result by result is the quickest of its ways here; joining a ResultSet was slower and could hang.
    results = [task.delay() for _index in range(count)]
    codes = [result.get(timeout=RESULT_SECONDS + count / 5) for result in results]
    if len(codes) != count or set(codes) != {"0"}:
        raise RuntimeError(f"{len(codes)} of {count} tasks ended, with {sorted(set(codes))}")


if __name__ == "__main__":
    lines.serve(_one, _many)

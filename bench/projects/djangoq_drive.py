"""The client of the django-q2 peer."""

import time

import django
from django.db import connection

from bench.projects import lines

RESULT_SECONDS = 30.0


def main() -> None:
    """Serve the benchmark until it closes standard input."""
    django.setup()
    from django_q import tasks  # noqa: PLC0415 - its models can be imported only after the set-up
    from django_q.models import OrmQ, Success  # noqa: PLC0415

    connection.ensure_connection()

    def submit() -> str:
        return str(tasks.async_task("bench.projects.command.run_true"))

    def one() -> None:
        code = tasks.result(submit(), wait=int(RESULT_SECONDS * 1000))
        if code != "0":
            raise RuntimeError(f"the task's result is {code!r}")

    def many(count: int) -> None:
        # At its defaults it keeps 250 results only, so what is finished is counted by what has left the queue.
        for _index in range(count):
            submit()
        deadline = time.monotonic() + RESULT_SECONDS + count / 5
        while OrmQ.objects.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{OrmQ.objects.count()} of {count} tasks are still queued")
            time.sleep(0.01)
        newest = Success.objects.order_by("-stopped").first()
        if newest is None or newest.result != "0":
            raise RuntimeError("the tasks left the queue and the newest has no result")

    lines.serve(one, many)


if __name__ == "__main__":
    main()

"""`manage.py qcluster`: the worker, which is django-q2's, with our exit codes and examples."""

from typing import Any

from django.db import DatabaseError
from django.utils import timezone
from django_q.management.commands import qcluster

from atomsite.commands import AtomCommand, UnavailableError, check_set_up
from shellagent.tasks import schedules_mend


class Command(AtomCommand, qcluster.Command):  # type: ignore[misc]  # django-q2 has no types
    """It is in an app of its own because Django takes the first command of a name, in the order of the apps."""

    help = (
        "Start the worker: what falls due is done here, such as expiry, lost hosts, retention and messages to people.\n"
        "No agent's command runs in it. It works until Ctrl-C or TERM; several may run, on several machines.\n"
        "Exit: 0 stopped, 64 called wrongly, 69 not set up, 70 internal error."
    )
    examples = "  manage.py qcluster\n  REDIS_URL=redis://redis.example.org:6379/0 manage.py qcluster\n"

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until stopped. Without tables it would try for ever; a database that is gone may come back."""
        try:
            check_set_up()
            schedules_mend(timezone.now())
        except DatabaseError:
            pass
        except UnavailableError as error:
            if not isinstance(error.__cause__, DatabaseError):
                raise
        super().handle(*args, **options)

"""What the screenshots show: a host, four agents and sessions of every kind, made by the product's own services."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.utils import timezone

from governance.models import Agent
from governance.policy.types import Maturity
from governance.services import agent_create, agent_party, agent_set_maturity, key_issue, user_party
from shellagent import protocol
from shellagent.links import SessionConverter
from shellagent.models import Host, ShellSession
from shellagent.protocol import HostFacts, OutputSegment, RunOutcome, StreamTotal
from shellagent.services import (
    Ask,
    Asker,
    agent_host_set,
    enrolment_issue,
    host_enrol,
    host_poll,
    promotions_review,
    session_approve,
    session_reject,
    session_request,
    sessions_record,
    sessions_start,
)
from tests.shellagent.scene import INSTANCE, poll_request, report

PASSWORD = "correct horse battery staple"  # noqa: S105 - of a database that lives for one test
FACTS = HostFacts(
    home="/home/atom",
    user="atom",
    scratch="/home/atom/.cache/atom/scratch",
    hostname="build-7",
    platform="linux",
    protected=("/home/atom/.local/state/atom",),
)
PROTECTIONS = ("landlock-fs", "landlock-net")
LISTING = b"""total 16
-rw-r--r-- 1 atom atom 5120 Nov 20 09:14 april.csv
-rw-r--r-- 1 atom atom 4608 Nov 20 09:14 may.csv
drwxr-xr-x 2 atom atom 4096 Nov 21 17:02 summaries
"""
NAMES = {
    Maturity.STUDENT: "docs-writer",
    Maturity.INTERN: "triage-bot",
    Maturity.SUPERVISED: "code-reviewer",
    Maturity.AUTONOMOUS: "nightly-build",
}


class Showcase:
    """The rows. `heartbeat` keeps the host alive while pages are looked at."""

    def __init__(self) -> None:
        self.admin = superuser("admin")
        self.host, _key = host_enrol(code=enrolment_issue(name="build-7", actor=user_party(self.admin)), facts=FACTS)
        enrolment_issue(name="staging-2", actor=user_party(self.admin))
        self.heartbeat()
        self.agents = {maturity: self._agent(maturity, name) for maturity, name in NAMES.items()}
        self.succeeded = self.ask(Maturity.AUTONOMOUS, "ls -l /tmp/reports")
        self.failed = self.ask(Maturity.AUTONOMOUS, "cat /tmp/reports/june.csv")
        self._run(self.succeeded, stdout=LISTING)
        self._run(self.failed, stderr=b"cat: /tmp/reports/june.csv: No such file or directory\n", code=1)
        self.ask(Maturity.STUDENT, "sudo reboot")
        rejected = self.ask(Maturity.INTERN, "rm -r /tmp/reports")
        session_reject(session=rejected, approver=self.admin, reason="Move them to /tmp/old instead.")
        for command, code in (("rm -r /tmp/build/2025", 0), ("rm -rf /tmp/build/cache", 1)):
            before = self.ask(Maturity.SUPERVISED, command)
            session_approve(session=before, approver=self.admin)
            self._run(before, code=code, stderr=b"rm: cannot remove: Permission denied\n" if code else b"")
        self.pending = self.ask(
            Maturity.SUPERVISED,
            "rm -r /tmp/build/old",
            reason="The disk is nearly full, and nothing has used these files for a month.",
            timeout_seconds=120,
        )
        self.ask(
            Maturity.STUDENT,
            "head -n 20 /tmp/reports/april.csv",
            reason="I want to see the columns before I write the summary.",
            working_directory="/tmp/reports",  # noqa: S108 - in what is asked for, not here
            env={"LANG": "C.UTF-8"},
        )
        self.granted = self._counted("january", "february", "march", "april")
        for _ in range(2):
            restart = self.ask(Maturity.INTERN, "docker restart web", reason="It answers with errors since noon.")
        #: Where both are decided on together.
        self.same = f"/queue/same/{restart.digest}"
        self.ask(Maturity.AUTONOMOUS, "du -sh /tmp/build")
        #: One of each kind, without the weeks of work that follow.
        self.sessions = list(ShellSession.objects.all())
        self._grow(self.agents[Maturity.INTERN], rejected)

    def heartbeat(self) -> None:
        """Poll as the host."""
        request = poll_request(free_slots=0, facts=FACTS, protections=PROTECTIONS, version="0.1.0")
        host_poll(host=Host.objects.get(pk=self.host.pk), request=request)

    def ask(self, maturity: Maturity, command: str, **options: object) -> ShellSession:
        """Ask for a command."""
        agent = self.agents[maturity]
        asker = Asker(agent.pk, agent.name, agent.maturity, agent.is_suspended, agent_party(agent))
        session, _is_replay = session_request(ask=replace(Ask(command=command), **options), asker=asker)  # type: ignore[arg-type]
        return session

    def _agent(self, maturity: Maturity, name: str) -> Agent:
        actor = user_party(self.admin)
        agent = agent_create(name=name, owner=self.admin, actor=actor)
        key_issue(agent=agent, actor=actor, label="production")
        agent_host_set(agent=agent, host=self.host, actor=actor, is_default=True)
        if maturity is not Maturity.STUDENT:
            agent = agent_set_maturity(agent=agent, maturity=maturity, reason="Its record is good.", actor=actor)
        return agent

    def _counted(self, *months: str) -> ShellSession:
        """Let an agent count lines of file after file, by a person's word. Returns the session that still waits."""
        for month in months:
            session = self.ask(
                Maturity.STUDENT,
                f"wc -l /tmp/reports/{month}.csv",
                working_directory="/tmp/reports",  # noqa: S108
            )
            if month != months[-1]:
                session_approve(session=session, approver=self.admin)
                self._run(session, stdout=b"40 lines\n")
        return session

    def _grow(self, agent: Agent, like: ShellSession) -> None:
        """Give an agent four weeks of work, after which the review proposes it."""
        begin = timezone.now() - timedelta(days=28)
        Agent.objects.filter(pk=agent.pk).update(created_at=begin, maturity_since=begin)
        columns = {name: getattr(like, name) for name in (one.attname for one in ShellSession._meta.concrete_fields)}
        endings = ["succeeded"] * 9 + ["failed"]
        sessions = []
        for number in range(84):
            moment = begin + timedelta(hours=8 * number + 5 * (number % 3))
            status = "rejected" if number in (3, 17) else endings[number % 10]
            sessions.append(
                ShellSession(
                    **columns
                    | {
                        "id": UUID(int=(int(moment.timestamp() * 1000) << 80) | (7 << 76) | (0b10 << 62) | number),
                        "created_at": moment,
                        "finished_at": moment,
                        "status": status,
                        "digest": f"{number:064x}",
                        "category": ("read", "read", "write", "build")[number % 4],
                        "intervention": "rejected" if status == "rejected" else "",
                        "warrant": "" if status == "rejected" else "w",
                    }
                )
            )
        ShellSession.objects.bulk_create(one for one in sessions if one.created_at < timezone.now())
        promotions_review()

    def _run(self, session: ShellSession, *, stdout: bytes = b"", stderr: bytes = b"", code: int = 0) -> None:
        host = Host.objects.get(pk=self.host.pk)
        request = poll_request(free_slots=1, facts=FACTS, protections=PROTECTIONS, version="0.1.0")
        host_poll(host=host, request=request)
        start = protocol.Start(str(session.pk), f"start-{session.pk}", session.digest)
        sessions_start(host=host, request=protocol.StartRequest(protocol.VERSION, INSTANCE, (start,)))
        result = report(
            ShellSession.objects.get(pk=session.pk),
            RunOutcome.FAILED if code else RunOutcome.SUCCEEDED,
            exit_codes=(code,),
            stdout=StreamTotal(len(stdout), "a" * 64, False),
            stderr=StreamTotal(len(stderr), "b" * 64, False),
            duration_us=4213,
            protections=PROTECTIONS,
            output=tuple(
                OutputSegment.of(name, 0, data) for name, data in (("stdout", stdout), ("stderr", stderr)) if data
            ),
        )
        sessions_record(host=host, request=protocol.RecordRequest(protocol.VERSION, INSTANCE, (result,)))


def card_of(session: ShellSession) -> str:
    """Return the path of a session's card."""
    return f"/s/{SessionConverter().to_url(session.pk)}"


def page_of(session_id: UUID) -> str:
    """Return the path of a session's page."""
    return f"/admin/shellagent/shellsession/{session_id}/change/"


def superuser(name: str) -> User:
    """Make one who can log in at a server whose password hashers are the product's, not the tests'."""
    encoded = PBKDF2PasswordHasher().encode(PASSWORD, "salt-of-a-test", iterations=10_000)
    return User.objects.create(username=name, password=encoded, is_staff=True, is_superuser=True)

"""The loop: poll, claim, obey. One thread claims; another polls for cancels while every slot is taken."""

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from shellagent import protocol
from shellagent.host import scripts
from shellagent.host.client import Client
from shellagent.host.credential import renew
from shellagent.host.errors import AtomError, UnavailableError, UpgradeRequiredError
from shellagent.host.sessions import Sessions
from shellagent.host.state import StateFolder
from shellagent.host.trouble import Trouble
from shellagent.protocol import PollAnswer, Reason

logger = logging.getLogger(__name__)

HOLD_SECONDS: Final = 20
#: A poll that cannot claim only because of this host's own state is held shorter: that state may change any moment.
SHORT_HOLD_SECONDS: Final = 5
#: With no free slot, another thread polls once the claiming one has not for this long.
WATCH_AFTER_SECONDS: Final = 0.5
#: Where the queue was not emptied by the last claim, waiting this long for more free slots makes larger batches.
LINGER_SECONDS: Final = 0.015
#: Pause after answers that came at once and brought nothing, such as a cancel that is already being obeyed.
NOTHING_NEW_SECONDS: Final = 0.25


@dataclass
class Loop:
    """What the threads of a host process repeat: `step` and `watch_step`."""

    client: Client
    sessions: Sessions
    facts: protocol.HostFacts
    version: str
    clock: Callable[[], float] = time.monotonic
    is_connected: bool | None = field(default=None, init=False)
    desired_state: str = field(default=protocol.Desired.RUNNING, init=False)
    #: When the claiming thread last moved, by `clock`.
    last_step: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.draining = self.sessions.draining
        self.say = self.sessions.say
        self.trouble = Trouble()
        self.trouble.watch()
        self._watcher = self.client.another()
        #: Kept until an answer was read; also the key under which what is claimed with it is started.
        self._claim_key = str(uuid.uuid4())
        self._audit_failed = False
        self._is_full = False
        self._looked: deque[protocol.Looked] = deque()
        self._queue_was_left = False
        self._empty_answers = 0
        self._is_polling = False
        self.last_step = self.clock()

    def step(self, *, hold_seconds: int = HOLD_SECONDS) -> bool:
        """Poll once and start what was claimed. Returns whether there was any. Raises CallError.

        With no free slot it waits for one, for a second at most, and then returns False without polling.
        """
        self.last_step = self.clock()
        if not self.is_connected:
            # An answer at once says that the server is there again.
            hold_seconds = 0
        if not self._may_claim():
            short = min(hold_seconds, SHORT_HOLD_SECONDS)
            is_stopped = self.desired_state == protocol.Desired.STOPPED
            self._poll(self.client, str(uuid.uuid4()), 0, hold_seconds if is_stopped else short)
            return False
        least = max(1, self.sessions.slots.count // 4) if self._queue_was_left else 1
        slots = self.sessions.slots.take(timeout_seconds=1.0, least=least, linger_seconds=LINGER_SECONDS)
        if not slots:
            return False
        self._is_polling = True
        try:
            claim_key = self._claim_key
            answer = self._poll(self.client, claim_key, len(slots), hold_seconds)
            # The answer was read: only now may another claim be made.
            self._claim_key = str(uuid.uuid4())
            self._queue_was_left = len(answer.sessions) >= len(slots)
        except BaseException:
            self.sessions.slots.give_back(*slots)
            raise
        finally:
            self._is_polling = False
            self.last_step = self.clock()
        if self._audit_failed:
            # What came along goes back to the queue, or is lost, when its lease is over.
            self.sessions.slots.give_back(*slots)
            return False
        self.sessions.begin(self.client, answer, slots, start_key=claim_key)
        return bool(answer.sessions)

    def watch_step(self, *, hold_seconds: int = SHORT_HOLD_SECONDS) -> bool:
        """While every slot is taken, poll without claiming, for heartbeat and cancels. Returns whether it polled."""
        if not self.sessions.slots.wait_until_full(timeout_seconds=hold_seconds):
            return False
        time.sleep(WATCH_AFTER_SECONDS)
        if self._is_polling or self.sessions.slots.free:
            return False
        self._poll(self._watcher, str(uuid.uuid4()), 0, hold_seconds)
        return True

    def close(self) -> None:
        """Wait for the sessions' threads and close the connections."""
        self.sessions.close()
        self.trouble.close()
        for client in (self.client, self._watcher):
            client.close()

    def _may_claim(self) -> bool:
        return not (
            self.draining.is_set()
            or self._audit_failed
            or self.desired_state == protocol.Desired.STOPPED
            or self._has_no_room()
        )

    def _has_no_room(self) -> bool:
        """Return whether there is no room for more results, and say where that has changed."""
        why = self.sessions.journal.fullness()
        if bool(why) is not self._is_full:
            self._is_full = bool(why)
            if why:
                # As an error, so that the server learns of it.
                logger.error("Nothing more is claimed: %s.", why)
            else:
                self.say("there is room for results again")
        return self._is_full

    def _poll(self, client: Client, claim_key: str, free_slots: int, hold_seconds: int) -> PollAnswer:
        if self.client.credential.refresh():
            self.say("the key was replaced: using the new one")
        began = self.clock()
        # Told once: by the poll that takes it, and again where that finds no server.
        looked = tuple(self._take_looked())
        request = protocol.PollRequest(
            v=protocol.VERSION,
            instance_id=self.sessions.instance_id,
            boot_id=self.sessions.boot_id,
            claim_key=claim_key,
            free_slots=free_slots,
            running=self.sessions.running_ids(),
            spool=self.sessions.journal.depth,
            protections=self.sessions.settings.protections,
            facts=self.facts,
            version=self.version,
            hold_seconds=hold_seconds,
            time_us=time.time_ns() // 1000,
            last_error=self.trouble.last(),
            looked=looked,
            start_key=claim_key if free_slots else "",
        )
        try:
            answer = client.poll(request)
            if answer.v != protocol.VERSION:
                raise UpgradeRequiredError(
                    f"The server speaks version {answer.v} of the protocol, and this local agent {protocol.VERSION}. "
                    "Install the server's version of the product on this machine."
                )
        except UnavailableError as error:
            self._looked.extend(looked)
            self._note_connection(is_connected=False, detail=str(error))
            raise
        self._note_connection(is_connected=True)
        self._obey(answer)
        if answer.sessions or answer.look or self.clock() - began > NOTHING_NEW_SECONDS or not hold_seconds:
            self._empty_answers = 0
        else:
            self._empty_answers += 1
            if self._empty_answers > 1:
                # Not cut short by the end of the process, which waits for what is being stopped.
                time.sleep(NOTHING_NEW_SECONDS)
        return answer

    def _take_looked(self) -> Iterator[protocol.Looked]:
        # Both threads may be at it.
        with suppress(IndexError):
            while True:
                yield self._looked.popleft()

    def _obey(self, answer: PollAnswer) -> None:
        self.sessions.host_id = self.sessions.host_id or answer.host_id
        if news := self.sessions.pinned.learn(answer.server_keys):
            self.say(news)
        if answer.look:
            self._looked.extend(scripts.look(answer.look, self.sessions.holding.facts))
        if answer.renew_key:
            self._renew_key()
        if answer.desired_state != self.desired_state:
            self.desired_state = answer.desired_state
            is_stopped = answer.desired_state == protocol.Desired.STOPPED
            self.say("stopped by the server: claiming nothing" if is_stopped else "resumed by the server")
        has_failed = answer.audit == "failed"
        if has_failed is not self._audit_failed:
            self._audit_failed = has_failed
            stopping = "the server cannot write its audit trail: stopping what runs, claiming nothing"
            self.say(stopping if has_failed else "the server writes its audit trail again")
        if has_failed:
            self.sessions.abort_all(Reason.AGENT_STOP)
        for order in answer.cancel:
            try:
                reason = Reason(order.reason)
            except ValueError:
                reason = Reason.CANCEL
            self.sessions.abort(order.id, reason, order.grace_seconds)

    def _renew_key(self) -> None:
        """Ask for a new key, as an operator wishes. The next poll of each thread shows it."""
        credential = self.client.credential
        if credential.file is None:
            self.say("a new key is wished for, but this one is not from the state folder: enrol this host anew")
            return
        try:
            renew(StateFolder(credential.file.parent), self._ask_key)
        except (AtomError, OSError) as error:
            self.say(f"the key could not be replaced: {error}")

    def _ask_key(self, key: str) -> str:
        client = Client(self.client.url, key)
        try:
            return client.new_key()
        finally:
            client.close()

    def _note_connection(self, *, is_connected: bool, detail: str = "") -> None:
        if is_connected == self.is_connected:
            return
        self.say(f"connected to {self.client.url}" if is_connected else f"{detail} Trying again until it does.")
        self.is_connected = is_connected

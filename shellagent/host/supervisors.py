"""The supervisors of the slots: made when they are first needed, ended where they failed, and replaced."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

from shellagent.host.channel import ClosedError, Message
from shellagent.host.settings import Settings
from shellagent.host.slots import Slot
from shellagent.host.zygote import Burial, Zygote


@dataclass
class Supervisors:
    """Safe from any thread, as long as a slot belongs to one at a time."""

    zygote: Zygote
    #: What supervisors are told of this host.
    settings: Settings
    #: Whether none can be made any more.
    is_broken: bool = field(default=False, init=False)

    def tell(self, slot: Slot, message: Message) -> bool:
        """Send the first message of a session to the slot's supervisor. Returns False where there is none to be had."""
        for _ in range(2):
            try:
                if slot.supervisor is None:
                    self._make(slot)
                if slot.supervisor is not None:
                    slot.supervisor.channel.send(message)
            except ClosedError:
                # It died while it had nothing to do.
                self.end(slot)
            else:
                return True
        return False

    def end(self, slot: Slot) -> Burial:
        """End a slot's supervisor and what it left; the slot gets another one when it is needed."""
        supervisor, slot.supervisor = slot.supervisor, None
        if supervisor is None:
            return Burial(0, ())
        try:
            return self.zygote.bury(supervisor)
        except ClosedError:
            self.is_broken = True
            supervisor.channel.close()
            return Burial(0, ())

    def end_all(self, slots: Iterable[Slot]) -> None:
        """End them all."""
        for slot in slots:
            self.end(slot)

    def _make(self, slot: Slot) -> None:
        try:
            own = dataclasses.replace(self.settings, temporary=str(slot.temporary), cgroup=slot.cgroup)
            slot.supervisor = self.zygote.supervisor(own)
        except ClosedError:
            self.is_broken = True
            raise

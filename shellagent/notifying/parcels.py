"""What is handed to whoever sends, and what comes back. Neither knows the database."""

from dataclasses import dataclass, field
from typing import Final

#: One attempt ends after so long, whatever the other side does.
ATTEMPT_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message ready to be sent. `way` is that of a sink; a callback is a webhook."""

    name: str
    way: str
    #: The address, which may be a secret.
    address: str = field(repr=False)
    title: str = ""
    text: str = ""
    #: Of a webhook: JSON, and the secrets that sign it, each in a signature of its own.
    body: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an attempt went, in a sentence without any secret. `is_final`: trying again would not help."""

    is_delivered: bool
    detail: str
    status: int | None = None
    retry_after_seconds: int = 0
    is_final: bool = False

"""The product without its trail, for one comparison: what a command takes when no event is built, signed or written.

Only the benchmark's settings name this app, and only a bench installs it.
"""

import sys
from typing import Any

from django.apps import AppConfig


class UntrailedConfig(AppConfig):
    """Replaces `audit.trail.record`, wherever it was imported already and for all that import it later."""

    name = "bench.projects"
    label = "untrailed"

    def ready(self) -> None:
        from audit import trail  # noqa: PLC0415 - models, which are there only by now

        real = trail.record

        def nothing(*events: Any) -> list[trail.Receipt]:
            return [trail.Receipt("", "", "") for _event in events]

        for module in list(sys.modules.values()):
            if getattr(module, "record", None) is real:
                setattr(module, "record", nothing)  # noqa: B010 - any module's

from django.apps import AppConfig


class NotifyingConfig(AppConfig):
    """Telling people and programs what happened, without making any command wait for it."""

    name = "shellagent.notifying"
    label = "notifying"
    verbose_name = "Notifications"

    def ready(self) -> None:
        # Models can be imported only now.
        from audit import listening  # noqa: PLC0415
        from shellagent.notifying import checks, outbox  # noqa: F401, PLC0415
        from shellagent.notifying.kinds import TAGS  # noqa: PLC0415

        listening.listen(TAGS, outbox.events_heard)

from django.apps import AppConfig


class ShellAgentConfig(AppConfig):
    name = "shellagent"
    verbose_name = "Local agent"

    def ready(self) -> None:
        from shellagent import checks  # noqa: F401, PLC0415  (registers the system checks)

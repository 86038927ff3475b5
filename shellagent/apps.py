from django.apps import AppConfig


class ShellAgentConfig(AppConfig):
    name = "shellagent"
    verbose_name = "Local agent"

from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"
    verbose_name = "Audit trail"

    def ready(self) -> None:
        from audit import checks, people  # noqa: F401, PLC0415  (the import registers the system checks)

        people.connect()

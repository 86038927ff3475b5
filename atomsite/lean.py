"""Importing Django REST framework without what it offers to others: 13 MiB of a web process that has no use for it.

Its `compat` module imports `requests` and Django's PostgreSQL fields (with psycopg) wherever they are installed,
for clients and field types that the product does not have. Its `test` module, which drf-spectacular takes a class from,
does the same with Jinja. While they are imported those packages are not there.
"""

import sys
from typing import Final

_UNUSED: Final = ("requests", "coreapi", "coreschema", "django.contrib.postgres", "jinja2")


def import_framework() -> None:
    """Import `rest_framework.compat`; where it is imported already, nothing is left to save."""
    if "rest_framework.compat" in sys.modules:
        return
    hidden = [name for name in _UNUSED if name not in sys.modules]
    # A module that is None is one that cannot be found (the import system's own rule).
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import rest_framework.compat  # noqa: PLC0415
        import rest_framework.test  # noqa: F401, PLC0415
    finally:
        for name in hidden:
            del sys.modules[name]

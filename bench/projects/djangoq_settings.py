"""Settings of the django-q2 peer: the database as the product sets it, the queue at its defaults or tuned."""

import os
from typing import Any

import dj_database_url

SECRET_KEY = "of-a-project-that-lives-for-minutes"  # noqa: S105 - it signs nothing that outlives the run
INSTALLED_APPS = ["django_q"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": dj_database_url.parse(os.environ["PEER_DATABASE_URL"], conn_max_age=None)}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }

Q_CLUSTER: dict[str, Any] = {"orm": "default"}
if os.environ.get("PEER_TUNED"):
    Q_CLUSTER |= {
        "poll": 0.01,
        "bulk": 32,
        "queue_limit": 128,
        "save_limit": 0,
        "scheduler": False,
        "log_level": "ERROR",
    }

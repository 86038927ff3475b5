"""Settings. What differs between installations comes from the environment; docs/reference/settings.md lists it."""

import os
import sys
from logging import getLevelNamesMapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from atomsite.email import email_settings
from atomsite.home import Home

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Home.from_environment(BASE_DIR)


def _flag(name: str, *, default: bool) -> bool:
    return os.environ.get(name, "1" if default else "0").strip().lower() not in ("", "0", "no", "false", "off")


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise ImproperlyConfigured(f"{name} must be a whole number, not {text!r}.")
    return int(text)


def _database() -> dict[str, Any]:
    url = os.environ.get("DATABASE_URL") or f"sqlite:///{HOME.database}"
    try:
        database: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=None))
    except ValueError:
        database = {}
    if database.get("ENGINE") not in ("django.db.backends.sqlite3", "django.db.backends.postgresql"):
        # The value is not repeated: it may hold a password.
        raise ImproperlyConfigured("DATABASE_URL must be like postgresql://user:password@host:5432/name.")
    return database


def _time_zone() -> str:
    name = os.environ.get("TZ") or "UTC"
    if name != "UTC":
        try:
            ZoneInfo(name)
        except (LookupError, ValueError, OSError) as error:
            raise ImproperlyConfigured(f"TZ must be a time zone like Europe/Berlin, not {name!r}.") from error
    return name


def _log_level() -> str:
    name = os.environ.get("LOG_LEVEL") or "INFO"
    if name not in getLevelNamesMapping():
        raise ImproperlyConfigured(f"LOG_LEVEL must be one of DEBUG, INFO, WARNING and ERROR, not {name!r}.")
    return name


SECRET_KEY = os.environ.get("SECRET_KEY") or HOME.secret_key()
DEBUG = _flag("DEBUG", default=False)
PORT = _number("PORT", 8000)
ATOM_URL = (os.environ.get("ATOM_URL") or f"http://localhost:{PORT}").rstrip("/")
#: Links are built from this, never from a request's Host header.
ATOM_PUBLIC_URL = (os.environ.get("ATOM_PUBLIC_URL") or ATOM_URL).rstrip("/")
ATOM_OWNER_MAY_APPROVE = _flag("ATOM_OWNER_MAY_APPROVE", default=True)
#: Requests of one agent a minute, over all its keys, and the sessions it may have waiting for a person.
ATOM_EXECUTE_PER_MINUTE = _number("ATOM_EXECUTE_PER_MINUTE", 600)
ATOM_PENDING_PER_AGENT = _number("ATOM_PENDING_PER_AGENT", 20)
#: Requests of one key that may be held open at a time, so that no agent can take the threads that hosts need.
ATOM_WAITS_PER_KEY = _number("ATOM_WAITS_PER_KEY", 4)
ATOM_WAITS_TOTAL = _number("ATOM_WAITS_TOTAL", 16)
#: After how many days what is stored of ended sessions is erased; 0 keeps it. Events stay in any case.
ATOM_RETENTION_DAYS = _number("ATOM_RETENTION_DAYS", 90)
ATOM_RETENTION_REQUEST_DAYS = _number("ATOM_RETENTION_REQUEST_DAYS", ATOM_RETENTION_DAYS)
ATOM_RETENTION_OUTPUT_DAYS = _number("ATOM_RETENTION_OUTPUT_DAYS", ATOM_RETENTION_DAYS)
#: After how many days the log of messages to people and programs is forgotten; 0 keeps it.
ATOM_RETENTION_MESSAGES_DAYS = _number("ATOM_RETENTION_MESSAGES_DAYS", 30)
#: Whether webhooks, callbacks and services may be at private addresses. Link-local ones never are called.
ATOM_WEBHOOK_PRIVATE_ADDRESSES = _flag("ATOM_WEBHOOK_PRIVATE_ADDRESSES", default=False)
#: The mail server for messages to people, and who they are from.
EMAIL_URL = os.environ.get("EMAIL_URL", "")
globals().update(email_settings(EMAIL_URL))
DEFAULT_FROM_EMAIL = os.environ.get("EMAIL_FROM") or "atom@localhost"
#: What a scraper shows at `/metrics`; empty: people only.
ATOM_METRICS_TOKEN = os.environ.get("ATOM_METRICS_TOKEN", "")

#: The folder with the keys that sign starts: owner-only, the same content for every server process.
ATOM_KEYS = os.environ.get("ATOM_KEYS") or str(HOME.path / "keys")

#: Where checkpoints of the audit trail are published: file:/path, https://…, syslog:; `none` for nowhere.
# Spaces stand between sinks, so that one in a file's name is written %20.
_anchors = str(HOME.path / "audit-anchors.txt").replace("%", "%25").replace(" ", "%20")
ATOM_AUDIT_ANCHORS = os.environ.get("ATOM_AUDIT_ANCHORS") or f"file:{_anchors}"

#: How many proxies stand in front; what they say of the caller is believed, and nothing else.
ATOM_PROXY_COUNT = _number("ATOM_PROXY_COUNT", 0)
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
CSRF_TRUSTED_ORIGINS = [ATOM_PUBLIC_URL]
IS_HTTPS = ATOM_PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = IS_HTTPS
CSRF_COOKIE_SECURE = IS_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IS_HTTPS
SECURE_HSTS_PRELOAD = IS_HTTPS
SECURE_SSL_REDIRECT = IS_HTTPS
# `CallsOverTlsMiddleware` redirects these too, unless they never left this machine.
SECURE_REDIRECT_EXEMPT = [r"^api/", r"^healthz$", r"^metrics$"]
if _flag("ATOM_BEHIND_TLS_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_AGE = 12 * 60 * 60
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

INSTALLED_APPS = [
    "atomsite.apps.AtomAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "csp",
    "atomsite.worker",  # Before django_q: its command is the one that counts.
    "django_q",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "audit",
    "governance",
    "shellagent",
    "shellagent.notifying",
    "atomsite.apps.AtomConfig",
]

MIDDLEWARE = [
    "atomsite.addresses.ProxiedAddressMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "atomsite.loopback.CallsOverTlsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "audit.origin.OriginMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

ROOT_URLCONF = "atomsite.urls"
WSGI_APPLICATION = "atomsite.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "atomsite" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": _database()}
IS_SQLITE = DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3"
if IS_SQLITE:
    DATABASES["default"]["ENGINE"] = "atomsite.sqlite"
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # FULL: what was acknowledged survives a power cut. Each of the web server's threads has a connection; half a
        # megabyte of cache for each, in place of two, keeps the process small, and the system caches the file anyway.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-512;",
    }

if not IS_SQLITE:
    # Statements are prepared from their third use on: planning each anew was half of the server's work for it.
    options = DATABASES["default"].setdefault("OPTIONS", {})
    DATABASES["default"]["OPTIONS"] = {"server_side_binding": True, "prepare_threshold": 3, **options}

REDIS_URL = os.environ.get("REDIS_URL", "")
if REDIS_URL:
    if not REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
        # The value is not repeated: it may hold a password.
        raise ImproperlyConfigured("REDIS_URL must be like redis://host:6379/0.")
    CACHES = {"default": {"BACKEND": "atomsite.counters.CountingCache", "LOCATION": REDIS_URL}}
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

# django-q2 retries a failing task for ever and runs a prefetched one twice unless all of these are set.
Q_CLUSTER = {
    "name": "atom",
    "workers": 1,
    "timeout": 120,
    "retry": 600,
    "max_attempts": 3,
    "ack_failures": True,
    "queue_limit": 1,
    "bulk": 1,
    "catch_up": False,
    "save_limit": 200,
    "label": "Tasks",
    **({"redis": REDIS_URL} if REDIS_URL else {"orm": "default", "poll": 2}),
}

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AXES_FAILURE_LIMIT = 10
AXES_LOCKOUT_PARAMETERS = ["username", "ip_address"]
AXES_COOLOFF_TIME = 0.25  # hours
AXES_RESET_ON_SUCCESS = True
AXES_HANDLER = "atomsite.logins.LoginHandler"
AXES_VERBOSE = False
AXES_LOCKOUT_TEMPLATE = "locked_out.html"
LOGIN_URL = "admin:login"
#: What an authenticator calls this product.
OTP_TOTP_ISSUER = "Atom Local Agent"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "governance.authentication.BearerKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "atomsite.problems.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Atom Local Agent",
    "DESCRIPTION": "Run commands on real machines, under governance.",
    "VERSION": "0.1.0",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "atomsite.schema.problems_everywhere",
    ],
}

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = True
STATICFILES_DIRS = [BASE_DIR / "atomsite" / "static"]

LANGUAGE_CODE = "en-us"
TIME_ZONE = _time_zone()
USE_I18N = False
FORMAT_MODULE_PATH = "atomsite.formats"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain", "stream": sys.stderr}},
    "root": {"handlers": ["console"], "level": _log_level()},
    "loggers": {"django.request": {"level": "ERROR"}, "axes": {"level": "WARNING"}, "django-q": {"level": "WARNING"}},
}

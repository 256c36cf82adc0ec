"""Servers: everything that differs between them comes from the environment."""

import os

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from accounting.settings.base import *  # noqa: F403
from accounting.settings.base import BASE_DIR, MIDDLEWARE


def words(name):
    return [word.strip() for word in os.environ.get(name, "").split(",") if word.strip()]


DEBUG = False
SECRET_KEY = os.environ.get("SECRET_KEY")
if not SECRET_KEY:
    raise ImproperlyConfigured("set SECRET_KEY in the environment")

# Health checks of a deployment come from the machine itself.
ALLOWED_HOSTS = ["localhost", "127.0.0.1", *words("ALLOWED_HOSTS")]
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in words("ALLOWED_HOSTS")]
HTTPS = os.environ.get("HTTPS", "1") == "1"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None

# db/, media/ and queue/ are links to directories that all releases share.
DATABASES = {
    "default": dj_database_url.config(
        default=f"sqlite:///{BASE_DIR / 'db' / 'accounting.sqlite3'}",
        conn_max_age=60,
    ),
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Readers and the one writer do not block each other, and writers wait for their turn.
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL",
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
    }

# Static files are served by the application where no web server in front of it does.
security, *others = MIDDLEWARE
MIDDLEWARE = [security, "whitenoise.middleware.WhiteNoiseMiddleware", *others]

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
COMPRESS_OFFLINE = True

API_TOKEN = os.environ.get("API_TOKEN", "")

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "filesystem://")
if CELERY_BROKER_URL.startswith("filesystem:"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(BASE_DIR / "queue"),
        "data_folder_out": str(BASE_DIR / "queue"),
        "control_folder": str(BASE_DIR / "queue" / "control"),
    }

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}

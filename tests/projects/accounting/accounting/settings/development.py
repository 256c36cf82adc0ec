"""A developer's machine and the tests: nothing to set, nothing to start."""

from accounting.settings.base import *  # noqa: F403
from accounting.settings.base import BASE_DIR

DEBUG = True
SECRET_KEY = "development"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
    },
}

# Tasks run at once, in the process that asks for them.
CELERY_TASK_ALWAYS_EAGER = True
CELERY_TASK_EAGER_PROPAGATES = True

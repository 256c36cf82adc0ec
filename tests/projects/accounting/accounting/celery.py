"""The Celery application; `celery --app accounting worker` finds it."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "accounting.settings.production")

app = Celery("accounting")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

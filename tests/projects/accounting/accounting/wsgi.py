"""The WSGI application; `gunicorn accounting.wsgi` finds it."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "accounting.settings.production")

application = get_wsgi_application()

"""Pages for those who deploy the application: is it well, which release answers, and two that
show whether a deployment is gentle – a request that takes long, and code imported late.
"""

import os
import time

from django.db import DatabaseError, connection
from django.http import HttpResponseBadRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from operations import release

LONGEST_SECONDS = 30.0


@require_GET
@never_cache
def health(request):
    """Answer 200 when the database answers, else 503."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return JsonResponse({"status": "failing", "database": str(error)}, status=503)
    return JsonResponse({"status": "ok", "version": release.version()})


@require_GET
@never_cache
def version(request):
    """Say which release and which process answers."""
    return JsonResponse({"version": release.version(), "pid": os.getpid()})


@require_GET
@never_cache
def slow(request):
    """Take as long as asked: a deployment must let such a request finish."""
    try:
        seconds = float(request.GET.get("seconds", "2"))
    except ValueError:
        return HttpResponseBadRequest("seconds must be a number")
    time.sleep(min(max(seconds, 0.0), LONGEST_SECONDS))
    return JsonResponse({"version": release.version(), "seconds": seconds})


@require_GET
@never_cache
def lazy(request):
    """Import a module as late as now: it must come from the release this process runs."""
    from ledger import reports

    return JsonResponse({"version": release.version(), "module": reports.__file__})

"""Other programs book entries with `POST /api/entries`."""

import json

from django.conf import settings
from django.http import JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from ledger.forms import EntryForm
from ledger.models import Account


def _is_allowed(request):
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return bool(settings.API_TOKEN) and constant_time_compare(token, settings.API_TOKEN)


@csrf_exempt  # programs have no cookies; the token protects it
@require_POST
def entries(request):
    """Book one entry: {"account": "1200", "date": "2026-01-31", "text": "Rent", "amount": "-800"}."""
    if not _is_allowed(request):
        return JsonResponse({"error": "a valid token is needed"}, status=403)
    try:
        row = json.loads(request.body)
        account = Account.objects.filter(number=row.get("account")).first()
    except (ValueError, AttributeError):
        return JsonResponse({"error": "expected a JSON object"}, status=400)
    form = EntryForm({**row, "account": account and account.pk})
    if not form.is_valid():
        return JsonResponse({"error": form.errors}, status=400)
    return JsonResponse({"id": form.save().pk}, status=201)

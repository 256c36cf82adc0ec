from django.contrib import messages
from django.db.models import Sum
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from ledger import tasks
from ledger.forms import EntryForm, StatementForm
from ledger.models import Account, Entry

LATEST = 20


def _page(request, entry_form=None, statement_form=None, status=200):
    context = {
        "accounts": Account.objects.annotate(balance=Sum("entries__amount", default=0)),
        "entries": Entry.objects.select_related("account")[:LATEST],
        "entry_form": entry_form or EntryForm(),
        "statement_form": statement_form or StatementForm(),
    }
    return render(request, "ledger/index.html", context, status=status)


@require_GET
def index(request):
    return _page(request)


@require_POST
def book_entry(request):
    form = EntryForm(request.POST)
    if not form.is_valid():
        return _page(request, entry_form=form, status=400)
    form.save()
    messages.success(request, _("The entry is booked."))
    return redirect("ledger:index")


@require_POST
def upload_statement(request):
    form = StatementForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, statement_form=form, status=400)
    statement = form.save()
    tasks.book_statement.delay(statement.pk)
    messages.success(request, _("The statement will be booked in a moment."))
    return redirect("ledger:index")


@require_GET
def report(request):
    from ledger import reports

    accounts = Account.objects.prefetch_related("entries")
    return HttpResponse(reports.accounts_as_xml(accounts), content_type="application/xml")

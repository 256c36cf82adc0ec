from celery import shared_task

from ledger import statements
from ledger.models import Statement


@shared_task
def book_statement(pk):
    """Book an uploaded statement; running it again books nothing twice."""
    return statements.book(Statement.objects.get(pk=pk))

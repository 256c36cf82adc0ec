"""Read bank statements."""

from django.db import transaction
from ofxparse import OfxParser

from ledger.models import Account, Entry


@transaction.atomic
def book(statement):
    """Book what a statement holds and was not booked before; return the number of new entries."""
    with statement.file.open("rb") as stream:
        parsed = OfxParser.parse(stream)
    booked = 0
    for source in parsed.accounts:
        account, _ = Account.objects.get_or_create(
            number=source.account_id,
            defaults={
                "name": source.institution.organization if source.institution else source.account_id,
                "currency": source.statement.currency.upper(),
            },
        )
        for row in source.statement.transactions:
            _, created = Entry.objects.get_or_create(
                account=account,
                reference=row.id,
                defaults={
                    "date": row.date.date(),
                    "text": row.payee or row.memo,
                    "amount": row.amount,
                },
            )
            booked += created
    statement.booked = booked
    statement.save(update_fields=["booked"])
    return booked

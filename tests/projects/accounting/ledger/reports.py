"""The books as XML. lxml takes a while to import, so views import this module when it is asked for."""

from lxml import etree


def accounts_as_xml(accounts):
    """Return the accounts with their entries and balances, as bytes."""
    root = etree.Element("ledger")
    for account in accounts:
        entries = list(account.entries.all())
        element = etree.SubElement(
            root,
            "account",
            number=account.number,
            name=account.name,
            currency=account.currency,
            balance=str(sum(entry.amount for entry in entries)),
        )
        for entry in entries:
            row = etree.SubElement(
                element, "entry", date=entry.date.isoformat(), amount=str(entry.amount)
            )
            row.text = entry.text
    return etree.tostring(root, xml_declaration=True, encoding="utf-8", pretty_print=True)

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("ledger", "0002_account_currency"),
        ("ledger", "0002_statement"),
    ]

    operations = []

from django.db import migrations


def remove_spaces(apps, schema_editor):
    """Banks print "DE89 3704 0044" and send "DE8937040044": keep what they send."""
    Account = apps.get_model("ledger", "Account")
    for account in Account.objects.filter(number__contains=" "):
        account.number = account.number.replace(" ", "")
        account.save(update_fields=["number"])


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_merge_currency_and_statement")]

    operations = [migrations.RunPython(remove_spaces, migrations.RunPython.noop)]

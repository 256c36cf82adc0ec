import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Statement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("file", models.FileField(upload_to="statements/%Y/", verbose_name="file")),
                ("uploaded", models.DateTimeField(default=django.utils.timezone.now, verbose_name="uploaded")),
                ("booked", models.PositiveIntegerField(editable=False, null=True, verbose_name="entries booked")),
            ],
            options={
                "verbose_name": "statement",
                "verbose_name_plural": "statements",
                "ordering": ["-uploaded"],
            },
        ),
        migrations.AddField(
            model_name="entry",
            name="reference",
            field=models.CharField(blank=True, default="", max_length=64, verbose_name="reference"),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.UniqueConstraint(
                condition=models.Q(("reference", ""), _negated=True),
                fields=("account", "reference"),
                name="unique_reference_per_account",
            ),
        ),
    ]

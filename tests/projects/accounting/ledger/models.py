"""Accounts, the entries booked on them, and the bank statements entries are read from."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Account(models.Model):
    number = models.CharField(_("number"), max_length=34, unique=True)
    name = models.CharField(_("name"), max_length=100)
    currency = models.CharField(_("currency"), max_length=3, default="EUR")

    class Meta:
        ordering = ["number"]
        verbose_name = _("account")
        verbose_name_plural = _("accounts")

    def __str__(self):
        return f"{self.number} {self.name}"


class Entry(models.Model):
    account = models.ForeignKey(Account, models.PROTECT, related_name="entries")
    date = models.DateField(_("date"), default=timezone.localdate)
    text = models.CharField(_("text"), max_length=200)
    amount = models.DecimalField(_("amount"), max_digits=12, decimal_places=2)
    reference = models.CharField(_("reference"), max_length=64, blank=True, default="")

    class Meta:
        ordering = ["-date", "-pk"]
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        constraints = [
            # The bank's own number of a transaction: reading a statement twice books it once.
            models.UniqueConstraint(
                fields=["account", "reference"],
                condition=~models.Q(reference=""),
                name="unique_reference_per_account",
            ),
        ]

    def __str__(self):
        return f"{self.date} {self.text}: {self.amount}"


class Statement(models.Model):
    """A bank statement as it was uploaded, in OFX."""

    file = models.FileField(_("file"), upload_to="statements/%Y/")
    uploaded = models.DateTimeField(_("uploaded"), default=timezone.now)
    booked = models.PositiveIntegerField(_("entries booked"), null=True, editable=False)

    class Meta:
        ordering = ["-uploaded"]
        verbose_name = _("statement")
        verbose_name_plural = _("statements")

    def __str__(self):
        return self.file.name

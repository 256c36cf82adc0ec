import tempfile
from datetime import date
from decimal import Decimal
from pathlib import Path

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import TestCase, override_settings
from lxml import etree

from ledger.models import Account, Entry, Statement

STATEMENT = Path(__file__).with_name("statement.ofx").read_bytes()


class BookingTest(TestCase):
    def setUp(self):
        self.account = Account.objects.create(number="1200", name="Bank")

    def test_an_entry_is_booked_from_the_form(self):
        entry = {"account": self.account.pk, "date": "2026-01-31", "text": "Rent", "amount": "-800"}
        answer = self.client.post("/entries/", entry, follow=True)
        self.assertContains(answer, "The entry is booked.")
        self.assertContains(answer, "-800.00 EUR")

    def test_a_wrong_entry_is_shown_again_and_not_booked(self):
        answer = self.client.post("/entries/", {"account": self.account.pk, "amount": "much"})
        self.assertEqual(answer.status_code, 400)
        self.assertFalse(Entry.objects.exists())

    def test_the_report_holds_the_balances(self):
        Entry.objects.create(account=self.account, date=date(2026, 1, 2), text="In", amount=Decimal("10.00"))
        Entry.objects.create(account=self.account, date=date(2026, 1, 3), text="Out", amount=Decimal("-2.50"))
        report = etree.fromstring(self.client.get("/report.xml").content)
        self.assertEqual(report.xpath("//account[@number='1200']/@balance"), ["7.50"])

    def test_the_page_speaks_german(self):
        answer = self.client.get("/", headers={"accept-language": "de"})
        self.assertContains(answer, '<html lang="de">')


class StatementTest(TestCase):
    def setUp(self):
        media = tempfile.TemporaryDirectory()
        self.addCleanup(media.cleanup)
        settings = override_settings(MEDIA_ROOT=media.name)
        settings.enable()
        self.addCleanup(settings.disable)

    def upload(self):
        return self.client.post("/statements/", {"file": SimpleUploadedFile("january.ofx", STATEMENT)})

    def test_a_statement_is_booked(self):
        self.assertRedirects(self.upload(), "/")
        self.assertEqual(Statement.objects.get().booked, 3)
        self.assertEqual(Account.objects.get().number, "0532013000")
        self.assertEqual(
            [(str(entry.date), entry.text, str(entry.amount)) for entry in Entry.objects.all()],
            [("2026-01-20", "Telephone", "-39.90"), ("2026-01-05", "Rent", "-800.00"), ("2026-01-02", "Invoice 17", "1250.00")],
        )

    def test_a_statement_uploaded_twice_is_booked_once(self):
        self.upload()
        self.upload()
        self.assertEqual(Entry.objects.count(), 3)


@override_settings(API_TOKEN="a-token")
class ApiTest(TestCase):
    def post(self, row, token="a-token"):
        headers = {"Authorization": f"Bearer {token}"}
        return self.client.post("/api/entries", row, content_type="application/json", headers=headers)

    def test_a_program_books_an_entry(self):
        Account.objects.create(number="1200", name="Bank")
        row = {"account": "1200", "date": "2026-01-31", "text": "Rent", "amount": "-800"}
        self.assertEqual(self.post(row).status_code, 201)
        self.assertEqual(Entry.objects.get().amount, -800)

    def test_without_the_token_nothing_is_booked(self):
        self.assertEqual(self.post({}, token="another").status_code, 403)
        with override_settings(API_TOKEN=""):
            self.assertEqual(self.post({}, token="").status_code, 403)

    def test_an_unknown_account_is_named_in_the_answer(self):
        answer = self.post({"account": "99", "date": "2026-01-31", "text": "Rent", "amount": "1"})
        self.assertEqual(answer.status_code, 400)
        self.assertIn("account", answer.json()["error"])

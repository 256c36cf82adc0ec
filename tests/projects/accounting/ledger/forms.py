from django import forms

from ledger.models import Entry, Statement


class EntryForm(forms.ModelForm):
    class Meta:
        model = Entry
        fields = ["account", "date", "text", "amount"]
        widgets = {"date": forms.DateInput(attrs={"type": "date"})}


class StatementForm(forms.ModelForm):
    class Meta:
        model = Statement
        fields = ["file"]
        widgets = {"file": forms.ClearableFileInput(attrs={"accept": ".ofx"})}

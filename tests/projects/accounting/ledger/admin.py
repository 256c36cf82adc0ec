from django.contrib import admin

from ledger.models import Account, Entry, Statement


@admin.register(Account)
class AccountAdmin(admin.ModelAdmin):
    list_display = ["number", "name", "currency"]
    search_fields = ["number", "name"]


@admin.register(Entry)
class EntryAdmin(admin.ModelAdmin):
    list_display = ["date", "account", "text", "amount", "reference"]
    list_filter = ["account"]
    date_hierarchy = "date"
    search_fields = ["text", "reference"]


@admin.register(Statement)
class StatementAdmin(admin.ModelAdmin):
    list_display = ["file", "uploaded", "booked"]

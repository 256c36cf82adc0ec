from django.urls import path

from ledger import api, views

app_name = "ledger"
urlpatterns = [
    path("", views.index, name="index"),
    path("entries/", views.book_entry, name="book-entry"),
    path("statements/", views.upload_statement, name="upload-statement"),
    path("report.xml", views.report, name="report"),
    path("api/entries", api.entries, name="api-entries"),
]

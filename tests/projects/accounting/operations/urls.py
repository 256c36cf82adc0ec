from django.urls import path

from operations import views

urlpatterns = [
    path("healthz", views.health),
    path("version", views.version),
    path("slow", views.slow),
    path("lazy", views.lazy),
]

"""Stripe's HTTP API as far as Identity needs it. Nothing here knows Airflow."""

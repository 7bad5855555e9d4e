"""The connection form: one description for Airflow's metadata (3.3 and newer) and for the hook methods before."""

from __future__ import annotations

from typing import Any

CONN_FIELDS: dict[str, dict[str, Any]] = {
    "api_version": {
        "label": "Stripe API version",
        "schema": {"type": ["string", "null"]},
        "description": "Stripe-Version header. Empty: the version this provider was written for.",
    },
    "stripe_account": {
        "label": "Connected account",
        "schema": {"type": ["string", "null"]},
        "description": "Stripe-Account header (acct_…), to read a connected account.",
    },
    "stripe_context": {
        "label": "Stripe context",
        "schema": {"type": ["string", "null"]},
        "description": "Stripe-Context header; organization keys (sk_org_…) need it.",
    },
    "timeout": {
        "label": "Timeout",
        "schema": {"type": ["number", "null"]},
        "description": "Seconds to wait for one answer. Empty: 60.",
    },
    "max_retries": {
        "label": "Retries",
        "schema": {"type": ["integer", "null"]},
        "description": "How often one request is tried again. Empty: 6.",
    },
    "max_requests_per_second": {
        "label": "Requests a second",
        "schema": {"type": ["number", "null"]},
        "description": "At most, of one task or triggerer. Empty: 20; Stripe allows 25 on one endpoint.",
    },
    "max_concurrency": {
        "label": "Requests at once",
        "schema": {"type": ["integer", "null"]},
        "description": "At most, of one task or triggerer. Empty: 4.",
    },
}

# The port is not hidden, because the Test button of Airflow 3.3 is refused ("Bad Request") while it is empty.
UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["login", "schema", "extra"],
    "relabeling": {"host": "Base URL", "password": "API key"},
    "placeholders": {
        "host": "https://api.stripe.com",
        "port": "443; Airflow 3.3 cannot test a connection without it",
        "password": "rk_… with read access to Identity, or sk_…",
    },
}

"""The connection form: one description for Airflow's metadata (3.3 and newer) and for the hook methods before."""

from __future__ import annotations

from typing import Any

CONNECTION_TYPE = "stripe_identity"
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
        "description": "Retries per request. Empty: 6.",
    },
    "max_outage": {
        "label": "Longest outage",
        "schema": {"type": ["number", "null"]},
        "description": "Seconds to wait in the middle of a listing while Stripe is unavailable. Empty: 300.",
    },
    "max_requests_per_second": {
        "label": "Requests per second",
        "schema": {"type": ["number", "null"]},
        "description": "Maximum of all tasks on one machine. Empty: 20; Stripe allows 25 on one endpoint.",
    },
    "max_concurrency": {
        "label": "Requests at once",
        "schema": {"type": ["integer", "null"]},
        "description": "Maximum per task or triggerer. Empty: 4.",
    },
}

# The port is not hidden, because the Test button of Airflow 3.3 is refused ("Bad Request") while it is empty.
UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["login", "schema", "extra"],
    "relabeling": {"host": "Base URL", "password": "API key"},
    "placeholders": {
        "host": "https://api.stripe.com",
        "port": "443; Airflow 3.3 cannot test a connection without it",
        "password": "rk_… that may read Identity (Verification Sessions and Reports) and Events, or sk_…",
    },
}

"""What a connection can read, and whose: the connection test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_stripe_identity._stripe_api.errors import StripeError, in_one_line
from airflow_provider_stripe_identity._stripe_api.pages import EVENTS, VERIFICATION_SESSIONS, list_page
from airflow_provider_stripe_identity._stripe_api.parameters import EVENT_TYPES, events_query

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient


def report(client: StripeIdentityClient) -> str:
    """
    Ask for one session and one event, as tasks will, and say what works.

    :raises StripeError: when sessions cannot be read; events are needed by some features alone
    """
    found = list_page(client, VERIFICATION_SESSIONS, [], limit=1)["data"]
    try:
        found += list_page(client, EVENTS, events_query(types=EVENT_TYPES), limit=1)["data"]
        events = "events can be read"
    except StripeError as error:
        events = (
            "events cannot be read, so exports of changes and of events and asset watchers fail, and deferred sensors "
            f"poll one by one ({in_one_line(error)})"
        )
    if found:
        mode = "live mode" if found[0]["livemode"] else "test mode"
    else:
        mode = client.mode or "mode unknown, there is no session yet"
    return f"Connected to Stripe Identity ({mode}, {_account(client)}); VerificationSessions can be listed; {events}"


def _account(client: StripeIdentityClient) -> str:
    if account := client.headers.get("Stripe-Account"):
        return f"account {account}"
    if context := client.headers.get("Stripe-Context"):
        return f"context {context}"
    return "the key's own account" if client.has_key else "the gateway's account"

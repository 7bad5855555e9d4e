"""Links from a task in Airflow's UI to the Stripe Dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
    from airflow_provider_stripe_identity._stripe_api.parameters import Query

DASHBOARD = "https://dashboard.stripe.com"


class StripeDashboardLink(BaseOperatorLink):
    """What the task has read, in the Stripe Dashboard. Airflow asks for it on the worker, when the task ends."""

    name = "Stripe Dashboard"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, empty as long as nothing was read."""
        url: str = operator.dashboard_url()
        return url


def dashboard_url_of_accounts(client: StripeIdentityClient, *, livemode: bool | None) -> str:
    """
    Return where the Dashboard lists the connected accounts: it shows the sessions of one of them at a time.

    :param client: that read them; its mode counts when there was no session to tell
    :param livemode: of the sessions; None when none was read
    """
    return f"{DASHBOARD}/{'test/' if _is_test(client, livemode) else ''}connect/accounts/overview"


def dashboard_url(
    client: StripeIdentityClient, *, livemode: bool | None, session_id: str | None = None, filters: Query = ()
) -> str:
    """
    Return where the Dashboard shows a session, or the list of them.

    :param client: that read it: its account, and its mode when there was no session to tell
    :param livemode: of the sessions; None when none was read
    :param session_id: of the one session; None for the list
    :param filters: of the list, by the names of the API. Stripe does not document the Dashboard's own; what it does
        not know, it ignores
    """
    account = client.headers.get("Stripe-Account")
    parts = [
        DASHBOARD,
        account,
        "test" if _is_test(client, livemode) else None,
        "identity/verification-sessions",
        session_id,
    ]
    url = "/".join(part for part in parts if part)
    return f"{url}?{urlencode(filters)}" if filters else url


def _is_test(client: StripeIdentityClient, livemode: bool | None) -> bool:
    return client.mode == "test mode" if livemode is None else not livemode

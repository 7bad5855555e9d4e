"""The official Stripe SDK, on the same server, lists exactly what the hook lists."""

from __future__ import annotations

import pytest
import stripe

from airflow_provider_stripe_identity._stripe_api.parameters import EVENT_TYPES
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.testing import StripeIdentityServer

START, END = 1_767_225_600, 1_767_312_000


@pytest.fixture(scope="module")
def server():
    """A generated day, and sessions made by hand that carry what the generated ones may lack."""
    with StripeIdentityServer() as server, pytest.MonkeyPatch.context() as patch:
        server.populate(350, START, END)
        for number in range(7):
            server.create_session(
                client_reference_id="several",
                created=START + 100,
                status=("verified", "canceled", "requires_input", "processing")[number % 4],
                related_customer="cus_peer",
                related_customer_account="acct_peer",
            )
        patch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        yield server


@pytest.fixture(scope="module")
def sdk(server):
    """The peer."""
    return stripe.StripeClient(server.api_key, base_addresses={"api": server.url})


def plain(objects):
    return [item.to_dict() for item in objects]


FILTERS = {
    "none": {},
    "reference": {"client_reference_id": "several"},
    "window": {"created": {"gte": START + 3600, "lt": END - 3600}},
    "customer": {"related_customer": "cus_peer"},
    "customer account": {"related_customer_account": "acct_peer"},
    "expand": {"expand": ["data.verified_outputs", "data.last_verification_report"], "status": "verified"},
    **{status: {"status": status} for status in ("canceled", "processing", "requires_input", "verified")},
    "all together": {
        "client_reference_id": "several",
        "created": {"gte": START, "lt": START + 101},
        "related_customer": "cus_peer",
        "related_customer_account": "acct_peer",
        "status": "verified",
    },
}


def hook_arguments(filters):
    created = filters.get("created", {})
    return {key: value for key, value in filters.items() if key != "created"} | {
        f"created_{comparison}": bound for comparison, bound in created.items()
    }


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("page_size", [100, 7])
def test_lists_alike(server, sdk, filters, page_size):
    listing = sdk.v1.identity.verification_sessions.list
    peer = plain(listing(params={**filters, "limit": page_size}).auto_paging_iter())
    assert peer, "a filter that nothing passes would show nothing"
    hook = StripeIdentityHook()
    assert list(hook.list_verification_sessions(page_size=page_size, **hook_arguments(filters))) == peer
    middle = peer[len(peer) // 2]["id"]
    older = plain(listing(params={**filters, "limit": page_size, "starting_after": middle}).auto_paging_iter())
    newer = plain(listing(params={**filters, "limit": page_size, "ending_before": middle}).auto_paging_iter())
    ours = {"page_size": page_size, **hook_arguments(filters)}
    assert list(hook.list_verification_sessions(starting_after=middle, **ours)) == older
    # The SDK goes through the newer ones from the cursor on, oldest first.
    assert list(hook.list_verification_sessions(ending_before=middle, **ours)) == newer[::-1]
    assert [*newer[::-1], peer[len(peer) // 2], *older] == peer


def test_retrieves_alike(server, sdk):
    some = next(server.sessions(status="verified"))["id"]
    expand = ["verified_outputs", "last_verification_report"]
    peer = sdk.v1.identity.verification_sessions.retrieve(some, params={"expand": expand}).to_dict()
    assert StripeIdentityHook().get_verification_session(some, expand=expand) == peer
    assert peer["verified_outputs"]["first_name"]


def test_lists_events_alike(server, sdk):
    for session in server.sessions(client_reference_id="several", status="requires_input"):
        server.verify(session["id"])
    peer = plain(sdk.v1.events.list(params={"types": list(EVENT_TYPES), "limit": 5}).auto_paging_iter())
    assert peer
    assert list(StripeIdentityHook().list_events(types=EVENT_TYPES, page_size=5)) == peer

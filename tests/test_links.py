"""The links to the Stripe Dashboard: the right account and mode, and nothing but ids and filters in them."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest

from airflow_provider_stripe_identity.links import StripeDashboardLink
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator
from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor
from airflow_provider_stripe_identity.testing import StripeIdentityServer

MAY_1, MAY_2 = (int(datetime(2026, 5, day, tzinfo=UTC).timestamp()) for day in (1, 2))


def link(operator) -> str:
    (found,) = operator.operator_extra_links
    assert isinstance(found, StripeDashboardLink)
    return found.get_link(operator, ti_key=None)


def export(path, **arguments) -> StripeIdentityToObjectStorageOperator:
    return StripeIdentityToObjectStorageOperator(
        task_id="export", destination=path.as_uri(), created_gte=MAY_1, created_lt=MAY_2, **arguments
    )


@pytest.fixture(params=[False, True], ids=["test", "live"])
def stripe(request, monkeypatch):
    """A server, with a key that says nothing of its mode."""
    with StripeIdentityServer(livemode=request.param, gateway=True) as server:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        yield server, "" if request.param else "/test"


def test_the_sensors_link_is_the_verified_session(stripe):
    server, mode = stripe
    session = server.create_session(client_reference_id="user_1")
    sensor = StripeIdentityVerifiedSensor(task_id="wait", client_reference_id="user_1")
    assert not sensor.poke({}).is_done
    assert link(sensor) == ""
    server.verify(session["id"])
    assert sensor.poke({}).is_done
    assert link(sensor) == f"https://dashboard.stripe.com{mode}/identity/verification-sessions/{session['id']}"


def test_the_deferred_sensors_link_is_in_the_connected_account(stripe):
    _, mode = stripe
    sensor = StripeIdentityVerifiedSensor(task_id="wait", client_reference_id="user_1", stripe_account="acct_1")
    sensor.execute_complete({}, {"session": {"id": "vs_1", "livemode": mode == ""}})
    assert link(sensor) == f"https://dashboard.stripe.com/acct_1{mode}/identity/verification-sessions/vs_1"


def test_the_exports_link_is_the_filtered_list(stripe, tmp_path):
    server, mode = stripe
    server.populate(3, MAY_1, MAY_2)
    operator = export(tmp_path / "x.jsonl", status="verified", client_reference_id="user & 1")
    assert link(operator) == ""
    operator.execute({})
    operator = export(tmp_path / "x.jsonl")
    operator.execute({})
    url = urlsplit(link(operator))
    assert (
        f"{url.scheme}://{url.netloc}{url.path}" == f"https://dashboard.stripe.com{mode}/identity/verification-sessions"
    )
    assert dict(parse_qsl(url.query)) == {"created[gte]": str(MAY_1), "created[lt]": str(MAY_2)}


def test_every_filter_of_the_export_is_in_the_link(server, tmp_path):
    filters = {"status": "verified", "client_reference_id": "user & 1", "related_customer": "cus_1"}
    operator = export(tmp_path / "x.jsonl", **filters)
    operator.execute({})
    assert filters.items() <= dict(parse_qsl(urlsplit(link(operator)).query)).items()


@pytest.mark.parametrize(("key", "mode"), [("rk_test_1", "/test"), ("rk_live_1", "")])
def test_an_export_without_sessions_goes_by_the_key(tmp_path, monkeypatch, key, mode):
    with StripeIdentityServer(api_key=key) as server:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        operator = export(tmp_path / "x.jsonl")
        operator.execute({})
    assert urlsplit(link(operator)).path == f"{mode}/identity/verification-sessions"

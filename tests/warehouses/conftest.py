"""A Stripe whose clock the test sets, and the runs of an example DAG against it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from airflow_provider_stripe_identity.testing import StripeIdentityServer

DAY = 86400
TODAY = int(time.time()) // DAY * DAY


@pytest.fixture
def server(monkeypatch):
    now = SimpleNamespace(now=TODAY - 3 * DAY)
    with StripeIdentityServer(clock=lambda: now.now) as server:
        server.at = lambda second: setattr(now, "now", second)
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        yield server


def context(start: int, as_of: int | None = None) -> dict:
    """What templates see in the run of the day that begins then, once its changes are written."""
    return {
        "data_interval_start": datetime.fromtimestamp(start, UTC),
        "data_interval_end": datetime.fromtimestamp(start + DAY, UTC),
        "ti": SimpleNamespace(xcom_pull=lambda task_id: {"changes": {"as_of": as_of}}[task_id]),
    }

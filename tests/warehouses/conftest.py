"""A Stripe whose clock the test sets, and the runs of an example DAG against it."""

from __future__ import annotations

import pytest
from support.clocked_emulator import ClockedEmulator
from support.warehouse_steps import DAY, TODAY


@pytest.fixture
def server(monkeypatch):
    with ClockedEmulator(TODAY - 3 * DAY) as server:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        yield server

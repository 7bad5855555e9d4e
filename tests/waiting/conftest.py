"""How patient those who wait are in these tests."""

from __future__ import annotations

import pytest

from airflow_provider_stripe_identity._airflow import failures
from airflow_provider_stripe_identity._waiting import connections, places, watched_account


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed connection is used by the next request, and an error that stands for three intervals is permanent."""
    monkeypatch.setattr(connections, "LOOK_UP_AFTER", 0.0)
    monkeypatch.setattr(failures, "STANDS_FOR", 0.0)
    monkeypatch.setattr(places, "TRY_AGAIN_AFTER", 0.01)
    monkeypatch.setattr(places, "MAX_TRY_AGAIN_AFTER", 0.02)
    monkeypatch.setattr(watched_account, "STORE_ANSWERS_WITHIN", 0.1)

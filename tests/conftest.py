"""Shared fixtures. Airflow reads its home at import, so that comes before everything else."""

from __future__ import annotations

import os
import tempfile

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow_home_")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
# Connections of the tests are environment variables; a proxy between us and loopback would be in the way.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

from collections.abc import Callable  # noqa: E402

import pytest  # noqa: E402

from airflow_provider_stripe_identity.hooks import StripeIdentityHook  # noqa: E402
from airflow_provider_stripe_identity.stripe_api import client as client_module  # noqa: E402
from airflow_provider_stripe_identity.testing import StripeIdentityServer  # noqa: E402

pytest_plugins = ["airflow_provider_stripe_identity.testing.fixtures"]


@pytest.fixture
def server(stripe_identity_server: StripeIdentityServer, monkeypatch: pytest.MonkeyPatch) -> StripeIdentityServer:
    """An embedded Stripe Identity server behind the default connection."""
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", stripe_identity_server.airflow_connection())
    return stripe_identity_server


@pytest.fixture
def hook(server: StripeIdentityServer) -> StripeIdentityHook:
    """A hook on that server."""
    return StripeIdentityHook()


@pytest.fixture
def instant_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses, but for those the server asks for."""
    monkeypatch.setattr(client_module, "FIRST_BACKOFF", 0.0)


@pytest.fixture
def make_connection(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], StripeIdentityHook]:
    """Return a hook on a connection given as URI or JSON text."""

    def make(connection: str) -> StripeIdentityHook:
        monkeypatch.setenv("AIRFLOW_CONN_MADE", connection)
        return StripeIdentityHook("made")

    return make

"""Pytest fixtures: `pytest_plugins = ["airflow_provider_stripe_identity.testing.fixtures"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import StripeIdentityServer


@pytest.fixture
def stripe_identity_server() -> Iterator[StripeIdentityServer]:
    """Serve an empty Stripe account during one test."""
    with StripeIdentityServer() as server:
        yield server


@pytest.fixture
def stripe_identity_connection(
    stripe_identity_server: StripeIdentityServer, monkeypatch: pytest.MonkeyPatch
) -> StripeIdentityServer:
    """Let the connection `stripe_identity_default` lead to `stripe_identity_server`, and return that."""
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", stripe_identity_server.airflow_connection())
    return stripe_identity_server

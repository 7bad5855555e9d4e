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

"""What the tests of the emulator share."""

from __future__ import annotations

from typing import Any

import pytest
from support.emulator_api import new_api

from airflow_provider_stripe_identity.testing import StripeIdentityServer
from airflow_provider_stripe_identity.testing.api import Api


@pytest.fixture
def api() -> Api:
    return new_api()


@pytest.fixture
def start() -> Any:
    """Start a server with the given arguments; it is stopped after the test."""
    servers: list[StripeIdentityServer] = []

    def start_one(**arguments: Any) -> StripeIdentityServer:
        servers.append(StripeIdentityServer(**arguments).start())
        return servers[-1]

    yield start_one
    for server in servers:
        server.stop()

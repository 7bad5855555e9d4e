"""
A stateful emulator of Stripe Identity's API for tests, demonstrations and benchmarks.

It needs nothing but the standard library::

    with StripeIdentityServer() as server:
        session = server.create_session(client_reference_id="user_1")
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        ...                                 # run what waits for user_1
        server.verify(session["id"])

"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Response
    from .faults import Fault
    from .server import RecordedRequest, StripeIdentityServer
    from .store import EmulatorError

__all__ = ["EmulatorError", "Fault", "RecordedRequest", "Response", "StripeIdentityServer"]

_MODULES = {
    "EmulatorError": "store",
    "Fault": "faults",
    "RecordedRequest": "server",
    "Response": "api",
    "StripeIdentityServer": "server",
}


def __getattr__(name: str) -> Any:
    """Import the server at first use: every ``airflow`` command reads :mod:`.options`, few serve."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)

"""
An embedded, stateful Stripe Identity server for tests, demonstrations and benchmarks.

It needs nothing but the standard library::

    with StripeIdentityServer() as server:
        session = server.create_session(client_reference_id="user_1")
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        ...                                 # run what waits for user_1
        server.verify(session["id"])

"""

from __future__ import annotations

from .faults import Fault
from .server import RecordedRequest, StripeIdentityServer
from .store import StripeError

__all__ = ["Fault", "RecordedRequest", "StripeError", "StripeIdentityServer"]

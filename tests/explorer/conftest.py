"""The explorer as Airflow mounts it, in this process: real users, real permissions, a real audit log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_stripe_identity.testing import StripeIdentityServer

USERS = {"ada": "ADMIN", "olga": "OP", "uwe": "USER", "vera": "VIEWER"}
SESSIONS = "v1/identity/verification_sessions"


@pytest.fixture(scope="module")
def airflow_app(database: None) -> Any:
    """An api-server's application that has the explorer below ``/stripe-identity``."""
    from airflow.api_fastapi.app import init_auth_manager
    from fastapi import FastAPI

    from airflow_provider_stripe_identity._explorer.app import make_app

    app = FastAPI()
    app.mount("/stripe-identity", make_app())
    init_auth_manager(app)
    return app


@pytest.fixture
def token() -> Callable[..., str]:
    """Return a token of Airflow for a user."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    def make(name: str, **more: Any) -> str:
        return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role=USERS[name], **more))

    return make


@pytest.fixture
def browse(airflow_app: Any, token: Callable[..., str]) -> Iterator[Callable[..., Any]]:
    """Return a function that GETs an address of the explorer, as ``olga`` if nobody else is named."""
    from starlette.testclient import TestClient

    with TestClient(airflow_app) as client:

        def get(path: str, *, user: str | None = "olga", method: str = "GET", **options: Any) -> Any:
            headers = {"Authorization": f"Bearer {token(user)}"} if user else {}
            return client.request(
                method, f"/stripe-identity/{path}", headers=headers | options.pop("headers", {}), **options
            )

        yield get


@pytest.fixture
def stored(stripe_identity_server: StripeIdentityServer) -> Iterator[Callable[..., str]]:
    """Return a function that stores a connection in Airflow's database."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    made = []

    def store(conn_id: str = "stripe", **changes: Any) -> str:
        settings = json.loads(stripe_identity_server.airflow_connection()) | changes
        with create_session() as session:
            session.add(Connection(conn_id=conn_id, **settings))
        made.append(conn_id)
        return conn_id

    yield store
    with create_session() as session:
        session.query(Connection).filter(Connection.conn_id.in_(made)).delete()


@pytest.fixture
def audit_log() -> Callable[[], list[Any]]:
    """Return the entries since the test began."""
    from airflow.models import Log
    from airflow.utils.session import create_session

    def entries(after: int) -> list[Any]:
        with create_session() as session:
            found = session.query(Log).filter(Log.id > after, Log.event.like("stripe_identity%")).order_by(Log.id)
            return [(entry.event, entry.owner, json.loads(entry.extra)) for entry in found]

    with create_session() as session:
        last = session.query(Log.id).order_by(Log.id.desc()).first()
    return lambda: entries(last[0] if last else 0)

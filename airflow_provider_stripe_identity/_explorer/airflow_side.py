"""What the gateway needs of Airflow: who may use which connection, the connection itself, and the audit log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails
from airflow.configuration import conf
from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]
from airflow.models import Connection, Log
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from airflow_provider_stripe_identity._connection.form import CONNECTION_TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

#: The longest id of a connection that Airflow stores.
MAX_ID = 250


def may_use(user: BaseUser, connection_id: str) -> bool:
    """
    Tell whether a user may test this connection, as it is stored.

    Airflow's own test asks for the right to create connections (POST) and for the right to read this one (GET), both
    with the connection's team. Airflow's ``requires_access_connection("POST")`` takes the team from the request's body.
    """
    details = ConnectionDetails(conn_id=connection_id, **_team(connection_id))
    auth_manager = get_auth_manager()
    return all(
        auth_manager.is_authorized_connection(method=method, details=details, user=user) for method in ("POST", "GET")
    )


def usable_connections(user: BaseUser) -> list[str]:
    """Return the ids of the connections in Airflow's database that the user may use."""
    with create_session() as session:
        wanted = select(Connection.conn_id).where(Connection.conn_type == CONNECTION_TYPE).order_by(Connection.conn_id)
        connection_ids = list(session.scalars(wanted))
    return [connection_id for connection_id in connection_ids if may_use(user, connection_id)]


class UnreadableConnectionError(Exception):
    """Airflow has the connection, or may have it, and cannot read it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def find_connection(connection_id: str) -> Connection | None:
    """
    Return a connection of Stripe Identity, from Airflow's database or a secrets backend.

    :raises UnreadableConnectionError: when it cannot be decrypted, or a secrets backend refuses it
    """
    try:
        connection = Connection.get_connection_from_secrets(connection_id, **_team(connection_id))
    except AirflowNotFoundException:
        connection = None
    except Exception as error:
        raise UnreadableConnectionError(
            f"The connection {connection_id} cannot be looked up: {type(error).__name__}",
            "The log of the api-server, or of the secrets backend, says why",
        ) from error
    try:
        # Airflow does not find it either when it has it and cannot decrypt it.
        connection = connection or _stored(connection_id)
        if connection is None or connection.conn_type != CONNECTION_TYPE:
            return None
        # Decrypted when they are read.
        _ = connection.password, connection.extra
    except SQLAlchemyError:
        raise
    except Exception:
        raise UnreadableConnectionError(
            f"The connection {connection_id} cannot be decrypted",
            "Airflow's [core] fernet_key is not the one that it was saved with: set that one, or save it again",
        ) from None
    return connection


def _stored(connection_id: str) -> Connection | None:
    with create_session() as session:
        return session.scalar(select(Connection).where(Connection.conn_id == connection_id))


def record(user: str, connection_id: str, *, path: str, parameters: Sequence[str], by_name: Sequence[str]) -> None:
    """
    Write a call into Airflow's audit log before it is made: no parameter's value, only their names.

    :param path: Stripe's
    :param by_name: fields that were asked for by name; such calls have an event of their own
    """
    extra: dict[str, Any] = {"connection_id": connection_id, "path": path, "parameters": list(parameters)}
    if by_name:
        extra["fields"] = sorted(set(by_name))
    _write("stripe_identity_read_personal" if by_name else "stripe_identity_read", user, extra)


def record_refusal(user: str, connection_id: str, *, path: str, status: int) -> None:
    """
    Write a call that was refused into Airflow's audit log.

    :param connection_id: as asked; there need be none
    :param path: Stripe's
    :param status: of the response
    """
    extra = {"connection_id": connection_id[:MAX_ID], "path": path, "status": status}
    _write("stripe_identity_refused", user, extra)


def _write(event: str, user: str, extra: dict[str, Any]) -> None:
    with create_session(scoped=False) as session:
        session.add(Log(event=event, owner=user, owner_display_name=user, extra=json.dumps(extra)))


def _team(connection_id: str) -> dict[str, str | None]:
    """Return the connection's team, as the keyword that Airflow takes where it has teams."""
    if not conf.getboolean("core", "multi_team", fallback=False):
        return {}
    return {"team_name": Connection.get_team_name(connection_id)}

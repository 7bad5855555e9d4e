"""What has another name, or is not there, on some of the supported Airflow versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from airflow.sdk import BaseHook
except ImportError:  # Airflow 3.0
    from airflow.hooks.base import BaseHook  # type: ignore[attr-defined,no-redef]

try:
    from airflow.sdk import conf
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralError,
    )
    from airflow.sdk.lineage import get_hook_lineage_collector
except ImportError:  # before Airflow 3.2
    from airflow.configuration import conf  # type: ignore[assignment]
    from airflow.exceptions import (  # type: ignore[attr-defined,no-redef]
        AirflowException,
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralError,
    )
    from airflow.lineage.hook import get_hook_lineage_collector  # type: ignore[import-not-found,no-redef]

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "TaskDeferralError",
    "conf",
    "connection_and_extra",
    "get_hook_lineage_collector",
]


async def connection_and_extra(conn_id: str) -> tuple[Connection, dict[str, Any]]:
    """Look up a connection and read its extra without blocking the event loop."""
    try:
        from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
    except ImportError:  # as installed with Airflow 3.0
        from asgiref.sync import sync_to_async

        connection = await sync_to_async(BaseHook.get_connection)(conn_id)
        return connection, await sync_to_async(lambda: connection.extra_dejson)()
    connection = await get_async_connection(conn_id)
    return connection, await get_async_extra_dejson(connection)

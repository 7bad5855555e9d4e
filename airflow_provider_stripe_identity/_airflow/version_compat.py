"""What has another name, or is not there, on some of the supported Airflow versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow import __version__
from packaging.version import Version

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

_AIRFLOW = Version(Version(__version__).base_version)
AIRFLOW_V_3_1_PLUS = Version("3.1.0") <= _AIRFLOW
AIRFLOW_V_3_2_PLUS = Version("3.2.0") <= _AIRFLOW
AIRFLOW_V_3_3_PLUS = Version("3.3.0") <= _AIRFLOW

if AIRFLOW_V_3_1_PLUS:
    from airflow.sdk import BaseHook
else:
    from airflow.hooks.base import BaseHook  # type: ignore[attr-defined,no-redef]

if AIRFLOW_V_3_2_PLUS:
    from airflow.sdk import conf
    from airflow.sdk import exceptions as airflow_exceptions
    from airflow.sdk.exceptions import AirflowException, AirflowFailException
    from airflow.sdk.lineage import get_hook_lineage_collector
else:
    from airflow import exceptions as airflow_exceptions  # type: ignore[no-redef]
    from airflow.configuration import conf  # type: ignore[assignment]
    from airflow.exceptions import AirflowException, AirflowFailException  # type: ignore[attr-defined,no-redef]
    from airflow.lineage.hook import get_hook_lineage_collector  # type: ignore[import-not-found,no-redef]

__all__ = [
    "AIRFLOW_V_3_1_PLUS",
    "AIRFLOW_V_3_2_PLUS",
    "AIRFLOW_V_3_3_PLUS",
    "AirflowException",
    "AirflowFailException",
    "BaseHook",
    "airflow_exceptions",
    "asset_state_stores",
    "conf",
    "connection_of_store",
    "get_hook_lineage_collector",
]


def asset_state_stores(stores: Any) -> list[Any]:
    """
    Return the state store of each asset of a trigger.

    With one asset Airflow's mapping is itself a store; with several it must be asked for each of them, and a trigger
    is not given the assets that it could ask with.

    :param stores: a trigger's ``asset_state_store``, None before Airflow 3.3
    """
    if stores is None:
        return []
    return [*getattr(stores, "_by_name", {}).values(), *getattr(stores, "_by_uri", {}).values()] or [stores]


def connection_of_store(path: ObjectStoragePath) -> str | None:
    """Return the id of the Airflow connection that a path of object storage is opened with."""
    connection: str | None = path.conn_id if AIRFLOW_V_3_2_PLUS else path.storage_options.get("conn_id")
    return connection

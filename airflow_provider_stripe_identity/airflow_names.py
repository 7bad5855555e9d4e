"""Names that Airflow 3.0 has elsewhere than newer versions."""

from __future__ import annotations

try:
    from airflow.sdk import BaseHook, conf
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowTaskTimeout,
    )
    from airflow.sdk.lineage import get_hook_lineage_collector
except ImportError:  # Airflow 3.0
    from airflow.configuration import conf  # type: ignore[assignment]
    from airflow.exceptions import (  # type: ignore[no-redef]
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowTaskTimeout,
    )
    from airflow.hooks.base import BaseHook  # type: ignore[attr-defined,no-redef]
    from airflow.lineage.hook import get_hook_lineage_collector  # type: ignore[import-not-found,no-redef]

__all__ = [
    "AirflowFailException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowTaskTimeout",
    "BaseHook",
    "conf",
    "get_hook_lineage_collector",
]

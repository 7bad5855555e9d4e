"""
What this package adds to Airflow's metrics (StatsD, OpenTelemetry or Datadog): counters and one time.

The only tag is the connection's id; docs/operating.md names each metric.
"""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from functools import cache
from typing import Any

from airflow_provider_stripe_identity._airflow.version_compat import AIRFLOW_V_3_2_PLUS

log = logging.getLogger(__name__)


def count(conn_id: str | None, what: str, number: int = 1) -> None:
    """
    Count.

    :param conn_id: Airflow connection, the metric's tag
    :param what: ``requests``, ``retries``, ``rate_limited``, ``sessions`` or ``events``
    :param number: how many there are more
    """
    _send("incr", what, number, conn_id)


def export_took(conn_id: str, seconds: float) -> None:
    """Record how long an export took."""
    _send("timing", "export.duration", timedelta(seconds=seconds), conn_id)


def _send(kind: str, what: str, value: object, conn_id: str | None) -> None:
    try:
        getattr(_stats(), kind)(f"stripe_identity.{what}", value, tags={"conn_id": conn_id} if conn_id else {})
    except Exception as error:
        _warn_once(type(error).__name__)


def _stats() -> Any:
    """
    Return Airflow's metrics as this process has set them up.

    Since 3.2 there are two, which know nothing of each other: the SDK's in tasks, and the core's in the triggerer and
    the api-server.
    """
    if not AIRFLOW_V_3_2_PLUS:
        from airflow.stats import Stats

        return Stats
    from airflow.sdk.observability.stats import Stats

    of_core = sys.modules.get("airflow._shared.observability.metrics.stats")
    if of_core and not _is_set_up(sys.modules["airflow.sdk._shared.observability.metrics.stats"]):
        return of_core.Stats
    return Stats


def _is_set_up(stats: Any) -> bool:
    # A module's variable since 3.3, a class's attribute in 3.2.
    factory = stats._factory if hasattr(stats, "_factory") else stats.Stats.factory
    return factory is not None


@cache
def _warn_once(kind: str) -> None:
    log.warning("Airflow's metrics do not take those of Stripe Identity (%s); nothing else is affected", kind)

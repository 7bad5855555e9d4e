"""
The rows in a warehouse: their columns, as tables of five dialects and as JSON schema, and how a table is kept true.

There are two tables. That of sessions holds the latest state of each (:mod:`.sessions`), and its functions are those of
this module. That of events holds the history of each (:mod:`.events`), and its functions are ``events.ddl``,
``events.merge`` and so on. :func:`timeline` and :func:`funnel` are views over it (:mod:`.views`).
"""

from __future__ import annotations

from airflow_provider_stripe_identity.schema import events
from airflow_provider_stripe_identity.schema.columns import COLUMNS, DIALECTS, Dialect, columns
from airflow_provider_stripe_identity.schema.sessions import AS_OF, ddl, json_schema, merge
from airflow_provider_stripe_identity.schema.views import funnel, timeline

__all__ = [
    "AS_OF",
    "COLUMNS",
    "DIALECTS",
    "Dialect",
    "columns",
    "ddl",
    "events",
    "funnel",
    "json_schema",
    "merge",
    "timeline",
]

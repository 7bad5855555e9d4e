"""Which warehouse is behind a connection."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from airflow_provider_stripe_identity._airflow.version_compat import BaseHook
from airflow_provider_stripe_identity._warehouse.errors import LoadError

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._warehouse.warehouse import Warehouse

#: By connection type: where the warehouse is written, what it needs, and the extra of this package that brings that.
_WAREHOUSES = {
    "duckdb": ("duckdb.DuckDB", "duckdb", "duckdb"),
    "gcpbigquery": ("bigquery.BigQuery", "airflow.providers.google.cloud.hooks.bigquery", "google"),
    "google_cloud_platform": ("bigquery.BigQuery", "airflow.providers.google.cloud.hooks.bigquery", "google"),
    "postgres": ("postgres.Postgres", "airflow.providers.postgres.hooks.postgres", "postgres"),
    "redshift": ("redshift.Redshift", "airflow.providers.amazon.aws.hooks.redshift_sql", "amazon"),
    "snowflake": ("snowflake.Snowflake", "airflow.providers.snowflake.hooks.snowflake", "snowflake"),
}


def open_warehouse(conn_id: str) -> Warehouse:
    """
    Return the warehouse of a connection, without connecting to it.

    :raises LoadError: for a connection of another type, or a package that is not installed
    """
    conn_type = BaseHook.get_connection(conn_id).conn_type
    if conn_type not in _WAREHOUSES:
        raise LoadError(
            f"connection {conn_id} is of type {conn_type}; the types of warehouses are {', '.join(_WAREHOUSES)}"
        )
    place, needed, extra = _WAREHOUSES[conn_type]
    try:
        import_module(needed)
    except ImportError as error:
        raise LoadError(
            f"connection {conn_id} is of type {conn_type}, and {needed} cannot be imported ({error}):"
            f" pip install 'airflow-provider-stripe-identity[{extra}]'"
        ) from None
    module, _, name = place.partition(".")
    found: type[Warehouse] = getattr(import_module(f"airflow_provider_stripe_identity._warehouse.{module}"), name)
    return found(conn_id)

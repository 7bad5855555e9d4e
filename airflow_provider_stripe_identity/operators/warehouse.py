"""The operator that loads what the exports wrote into a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_provider_stripe_identity._airflow.failures import wrong_arguments_fail_the_task
from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS, Fields, Type
from airflow_provider_stripe_identity._warehouse.errors import LoadError
from airflow_provider_stripe_identity.operators._lineage import (
    emit_asset_events,
    openlineage_of_load,
    report_load_lineage,
)
from airflow_provider_stripe_identity.schema import columns

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_stripe_identity._warehouse.warehouse import Loaded


class StripeIdentityToWarehouseOperator(BaseOperator):
    """
    Bring a table up to date with the objects that exports wrote.

    The warehouse follows from the type of its connection: ``postgres``, ``duckdb``, ``snowflake``, ``gcpbigquery`` or
    ``google_cloud_platform``, ``redshift``. The objects are read through the connections that wrote them, so any store
    works; only Redshift needs S3.

    The objects of :class:`.StripeIdentityEventsToObjectStorageOperator` become a table of events, the others one of
    sessions. The table is created, with its schema, if it does not exist, and gets the columns that it does not have.
    Nothing is dropped and no type changed: a table that does not fit is refused with the differences. Which rows stay
    is the rule of :mod:`airflow_provider_stripe_identity.schema.sessions` or ``.events``, so loads may be repeated,
    overlap, come in any order and run side by side. All of it is one transaction; a line that is no row of the table
    fails the task, named by object and number, and changes nothing.

    :param written: the result of an export, ``export.output``, or a list of results, as mapped exports give it
        (templated)
    :param warehouse_conn_id: Airflow connection of the warehouse (templated)
    :param table: name as in SQL: ``verification_sessions``, ``raw.verification_sessions`` or with the database before
        it; each part may be quoted (templated)
    :param fields: top-level fields to load, or ``"all"``, as in the export. Others are ignored and named in the log
    :param extra_columns: columns for the export's ``extra_columns``, with the type of each: ``boolean``, ``integer``,
        ``json`` or ``text``, e.g. ``{"_exported_at": "text"}``
    :return: ``{"uri", "staged", "inserted", "replaced", "left_alone"}``: the table, the rows of the objects, and what
        became of them
    """

    template_fields: Sequence[str] = ("written", "warehouse_conn_id", "table")
    template_fields_renderers: ClassVar[dict[str, str]] = {"written": "json"}
    ui_color = "#e6e4ff"

    def __init__(
        self,
        *,
        written: Any,
        warehouse_conn_id: str,
        table: str,
        fields: Fields = DEFAULT_FIELDS,
        extra_columns: Mapping[str, Type] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        columns(fields, extra_columns=extra_columns)
        self.written = written
        self.warehouse_conn_id = warehouse_conn_id
        self.table = table
        self.fields = fields
        self.extra_columns = extra_columns
        self._done: tuple[list[str], list[str], Loaded] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Load the objects."""
        from airflow_provider_stripe_identity._warehouse.connections import open_warehouse
        from airflow_provider_stripe_identity._warehouse.objects import Lines, written_objects
        from airflow_provider_stripe_identity._warehouse.rows import EventRows, SessionRows
        from airflow_provider_stripe_identity._warehouse.tables import parse_table_name

        try:
            with wrong_arguments_fail_the_task():
                written = written_objects(self.written)
                is_history = {one.is_history for one in written} == {True}
                if not is_history and any(one.is_history for one in written):
                    raise ValueError("written: results of events and of sessions belong in tables of their own")
                rows = (EventRows if is_history else SessionRows)(self.fields, self.extra_columns)
                warehouse = open_warehouse(self.warehouse_conn_id)
                table = parse_table_name(warehouse.dialect, self.table)
            objects = [Lines(one, rows.columns, needs_as_of=not is_history) for one in written]
            loaded = warehouse.load(table, rows, objects)
        except LoadError as error:
            raise AirflowFailException(str(error)) from None
        result = {
            "uri": loaded.location.uri,
            "staged": loaded.staged,
            "inserted": loaded.inserted,
            "replaced": loaded.replaced,
            "left_alone": loaded.staged - loaded.inserted - loaded.replaced,
        }
        self.log.info(
            "Loaded %(staged)d rows into %(uri)s:"
            " %(inserted)d inserted, %(replaced)d replaced, %(left_alone)d left alone",
            result,
        )
        report_load_lineage(self, [one.uri for one in written], loaded.location.uri)
        emit_asset_events(context, self.outlets, result)
        self._done = [one.uri for one in written], [column.name for column in rows.columns], loaded
        return result

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Return what was read and written; the OpenLineage provider asks for it."""
        if self._done is None:
            return None
        objects, columns_loaded, loaded = self._done
        _, namespace, name = loaded.location
        return openlineage_of_load(objects, namespace, name, columns_loaded, loaded.inserted + loaded.replaced)

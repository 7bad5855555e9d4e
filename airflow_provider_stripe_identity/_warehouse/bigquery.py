"""BigQuery: a load job for each object, then one merge."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity._warehouse.errors import LoadError, warehouse_error
from airflow_provider_stripe_identity._warehouse.tables import TableName, create_or_extend
from airflow_provider_stripe_identity._warehouse.warehouse import Loaded, Location, Warehouse
from airflow_provider_stripe_identity.schema.columns import TYPES, column_name, quoted

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._export.fields import Field
    from airflow_provider_stripe_identity._warehouse.objects import Lines
    from airflow_provider_stripe_identity._warehouse.rows import Rows


class BigQuery(Warehouse):
    """
    A project behind a connection of type ``gcpbigquery`` or ``google_cloud_platform``.

    Objects in Google Cloud Storage are loaded from there, others are uploaded.
    """

    dialect = "bigquery"

    def load(self, table: TableName, rows: Rows, objects: Sequence[Lines]) -> Loaded:
        """Stage, prepare the table, merge. The merge is one statement, and so whole or not at all."""
        from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook

        hook = BigQueryHook(gcp_conn_id=self.conn_id, use_legacy_sql=False)
        with _errors("Connecting"):
            client = hook.get_client(project_id=hook.project_id, location=hook.location)
        place, inserted, replaced = load_with(client, table, rows, objects)
        name = ".".join(place.parts)
        return Loaded(
            Location(f"bigquery://{'/'.join(place.parts)}", "bigquery", name),
            sum(lines.rows for lines in objects),
            inserted,
            replaced,
        )


def load_with(client: Any, table: TableName, rows: Rows, objects: Sequence[Lines]) -> tuple[TableName, int, int]:
    """
    Load through a client.

    :return: the table with its project and dataset, the rows inserted, the rows replaced
    """
    parts = (client.project, *table.parts)[-3:]
    if len(parts) != 3 or len(table.parts) == 1:
        raise LoadError(f"table {table.sql}: name the dataset too, as in dataset.verification_sessions")
    place = TableName("bigquery", parts)
    with ExitStack() as stack:
        with _errors("Staging the rows"):
            staged = [_staged(client, place, lines, rows.columns, stack) for lines in objects]
        with _errors(f"Preparing table {place.sql}"):
            create_or_extend(lambda sql: client.query(sql).result(), place, rows, _columns(client, place))
        if not staged:
            return place, 0, 0
        with _errors(f"Merging into {place.sql}"):
            job = client.query(rows.merge("bigquery", place.sql, f"({' UNION ALL '.join(staged)})"))
            job.result()
    return place, job.dml_stats.inserted_row_count, job.dml_stats.updated_row_count


def _staged(client: Any, place: TableName, lines: Lines, columns: Sequence[Field], stack: ExitStack) -> str:
    """Load an object into a table of its own, which is removed in the end; return the query for its rows."""
    from google.cloud import bigquery

    # What may be expanded is a text in one row and an object in another.
    kinds = {"text": "JSON"} | {kind: TYPES["bigquery"][kind] for kind in ("boolean", "integer", "json")}

    def kind(column: Field) -> str:
        return kinds[column.type] if column.nullable else TYPES["bigquery"][column.type]

    name = f"{place.table}_staged_{uuid.uuid4().hex}"
    staged = bigquery.Table(
        ".".join((*place.parts[:2], name)),
        schema=[bigquery.SchemaField(column.name, kind(column)) for column in columns],
    )
    staged.expires = datetime.now(UTC) + timedelta(hours=6)  # for when the process is killed
    staged = client.create_table(staged)
    stack.callback(client.delete_table, staged, not_found_ok=True)
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
        ignore_unknown_values=True,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
    )
    uri = lines.written.uri
    if uri.startswith(("gs://", "gcs://")):
        for _ in lines:  # BigQuery would not say which line is wrong.
            pass
        client.load_table_from_uri("gs" + uri[uri.index("://") :], staged.reference, job_config=config).result()
    elif lines_were_written := _spool(lines, stack):
        client.load_table_from_file(lines_were_written, staged.reference, rewind=True, job_config=config).result()

    def value(column: Field) -> str:
        found = quoted("bigquery", column.name)
        is_mixed = kind(column) == "JSON" and column.type == "text"
        return f"COALESCE(JSON_VALUE({found}, '$'), TO_JSON_STRING({found}))" if is_mixed else found

    selected = ", ".join(f"{value(column)} AS {column_name('bigquery', column)}" for column in columns)
    as_of = "NULL" if lines.written.as_of is None else lines.written.as_of
    return f"SELECT {selected}, CAST({as_of} AS INT64) AS _as_of FROM {quoted('bigquery', *place.parts[:2], name)}"


def _spool(lines: Lines, stack: ExitStack) -> Any:
    """Return the lines as a file, or None when there are none: an empty file is no JSON to BigQuery."""
    spool = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - open until the load is done
    spool.writelines(lines)
    return spool if lines.rows else None


def _columns(client: Any, table: TableName) -> list[tuple[str, str, bool]]:
    """Return name, type and whether it needs a value, of each column; none if there is no table."""
    from google.api_core.exceptions import NotFound

    try:
        found = client.get_table(".".join(table.parts))
    except NotFound:
        return []
    return [
        (field.name, field.field_type, field.mode == "REQUIRED" and field.default_value_expression is None)
        for field in found.schema
    ]


@contextmanager
def _errors(doing: str) -> Iterator[None]:
    """Raise the client's errors without what they quote."""
    from google.api_core.exceptions import GoogleAPICallError

    try:
        yield
    except GoogleAPICallError as error:
        reason = error.errors[0].get("reason", "") if error.errors else ""
        kind = {400: "22", 401: "28", 403: "42", 404: "42"}.get(error.code or 0)
        raise warehouse_error(doing, kind, f"{type(error).__name__} {reason}".strip(), error.message) from None

"""Redshift: ``COPY`` of whole lines from S3, then one merge, all in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity._airflow.version_compat import BaseHook
from airflow_provider_stripe_identity._export.storage import is_compressed
from airflow_provider_stripe_identity._warehouse.errors import LoadError, warehouse_error
from airflow_provider_stripe_identity._warehouse.tables import TableName, create_or_extend
from airflow_provider_stripe_identity._warehouse.warehouse import Loaded, Location, Warehouse
from airflow_provider_stripe_identity.schema.columns import TYPES, column_name, quoted

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._export.fields import Field
    from airflow_provider_stripe_identity._warehouse.objects import Lines, WrittenObject
    from airflow_provider_stripe_identity._warehouse.rows import Rows

_STAGED = "stripe_identity_staged"
_COLUMNS = """\
SELECT column_name, data_type, is_nullable = 'NO' AND column_default IS NULL
FROM svv_columns WHERE table_schema = %s AND table_name = %s
"""


class Redshift(Warehouse):
    """
    A cluster or workgroup behind a connection of type ``redshift``.

    It reads S3 with the role of the object's AWS connection, extra ``role_arn``, or else with its own default role.
    """

    dialect = "redshift"

    def load(self, table: TableName, rows: Rows, objects: Sequence[Lines]) -> Loaded:
        """Check the lines, have them copied, merge, commit."""
        from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook

        for lines in objects:
            if lines.written.uri.partition("://")[0] not in ("s3", "s3a"):
                raise LoadError(f"{lines.written.uri}: Redshift reads objects from S3 and from no other store")
        for lines in objects:
            for _ in lines:  # Redshift would not say which line is wrong.
                pass
        hook = RedshiftSQLHook(self.conn_id)
        with _errors("Connecting"):
            connection = hook.get_conn()
        with closing(connection), closing(connection.cursor()) as cursor:
            with _errors("Staging the rows"):
                place = _place(cursor, table)
                definitions = [
                    f"{column_name('redshift', column)} {TYPES['redshift'][column.type]}" for column in rows.columns
                ]
                cursor.execute(f"CREATE TEMP TABLE {_STAGED} ({', '.join(definitions)}, _as_of BIGINT)")
                for number, lines in enumerate(objects):
                    lines_table = f"stripe_identity_lines_{number}"
                    cursor.execute(f"CREATE TEMP TABLE {lines_table} (line SUPER)")
                    cursor.execute(_copy(lines_table, lines.written))
                    cursor.execute(_typed(lines_table, lines.written.as_of, rows.columns))
            with _errors(f"Preparing table {place.sql}"):
                cursor.execute(_COLUMNS, place.parts)
                create_or_extend(cursor.execute, place, rows, cursor.fetchall(), create_schema=True)
            with _errors(f"Merging into {place.sql}"):
                changed: dict[str, int] = {}
                for statement in rows.merge("redshift", place.sql, _STAGED).split(";\n"):
                    verb = statement.partition(" ")[0]
                    if verb in ("", "BEGIN", "COMMIT"):  # The driver begins the transaction.
                        continue
                    cursor.execute(statement)
                    if not statement.startswith(f"UPDATE {_STAGED}"):
                        changed[verb] = cursor.rowcount
                connection.commit()
        # Of sessions a row is replaced by deleting it; of events none is, but redaction updates some.
        replaced = changed.get("DELETE", changed.get("UPDATE", 0))
        inserted = changed["INSERT"] - changed.get("DELETE", 0)
        return Loaded(self._location(place), sum(lines.rows for lines in objects), inserted, replaced)

    def _location(self, table: TableName) -> Location:
        connection = BaseHook.get_connection(self.conn_id)
        authority = f"{connection.host}:{connection.port or 5439}"
        parts = (connection.schema or "", *table.parts)
        return Location(f"redshift://{authority}/{'/'.join(parts)}", f"redshift://{authority}", ".".join(parts))


def _copy(table: str, written: WrittenObject) -> str:
    extra = BaseHook.get_connection(written.conn_id).extra_dejson if written.conn_id else {}
    uri = "s3" + written.uri[written.uri.index("://") :]

    def text(value: str) -> str:
        return "'" + value.replace("'", "''") + "'"

    role = text(extra["role_arn"]) if extra.get("role_arn") else "default"
    region = f" REGION {text(extra['region_name'])}" if extra.get("region_name") else ""
    packed = " GZIP" if is_compressed(uri) else ""
    return f"COPY {table} FROM {text(uri)} IAM_ROLE {role}{region} FORMAT JSON 'noshred'{packed}"


def _typed(lines_table: str, as_of: int | None, columns: Sequence[Field]) -> str:
    def value(column: Field) -> str:
        found = f"line.{quoted('redshift', column.name)}"
        if column.type == "text":  # what is expanded becomes the text of its JSON
            return (
                f"CASE WHEN IS_VARCHAR({found}) THEN CAST({found} AS VARCHAR(65535)) ELSE JSON_SERIALIZE({found}) END"
            )
        return found if column.type == "json" else f"CAST({found} AS {TYPES['redshift'][column.type]})"

    return (
        f"INSERT INTO {_STAGED} SELECT {', '.join(map(value, columns))},"
        f" CAST({'NULL' if as_of is None else as_of} AS BIGINT) FROM {lines_table}"
    )


def _place(cursor: Any, table: TableName) -> TableName:
    parts = table.parts
    if len(parts) == 3:
        cursor.execute("SELECT current_database()")
        if cursor.fetchone()[0] != parts[0]:
            raise LoadError(f"table {table.sql}: the connection is to another database")
        parts = parts[1:]
    if len(parts) == 1:
        cursor.execute("SELECT current_schema()")
        parts = (cursor.fetchone()[0], *parts)
    return TableName("redshift", parts)


@contextmanager
def _errors(doing: str) -> Iterator[None]:
    """Raise the driver's errors without what they quote."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("redshift_connector"):
            raise
        said = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        state = said.get("C")
        name = f"{type(error).__name__} {state or ''}".strip()
        raise warehouse_error(doing, state, name, said.get("M") or str(error)) from None

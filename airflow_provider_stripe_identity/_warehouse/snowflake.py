"""Snowflake: whole lines through a temporary stage or one of the user's, then one merge."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity._warehouse.errors import LoadError, warehouse_error
from airflow_provider_stripe_identity._warehouse.tables import TableName, create_or_extend, parse_table_name
from airflow_provider_stripe_identity._warehouse.warehouse import Loaded, Location, Warehouse
from airflow_provider_stripe_identity.schema.columns import TYPES, column_name, quoted

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._export.fields import Field
    from airflow_provider_stripe_identity._warehouse.objects import Lines
    from airflow_provider_stripe_identity._warehouse.rows import Rows

_COLUMNS = """\
SELECT column_name, data_type, is_nullable = 'NO' AND column_default IS NULL
FROM {database}.information_schema.columns WHERE table_schema = %s AND table_name = %s
"""

#: What Snowflake calls a store that an object's URI names otherwise.
_SCHEMES = {"gs": "gcs", "s3a": "s3"}


class Snowflake(Warehouse):
    """
    An account behind a connection of type ``snowflake``.

    Extra ``stage`` names an external stage: objects that lie in it are copied from there, all others are uploaded.
    """

    dialect = "snowflake"

    def load(self, table: TableName, rows: Rows, objects: Sequence[Lines]) -> Loaded:
        """Upload, stage, prepare the table, merge. The merge is one statement, and so whole or not at all."""
        from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook

        hook = SnowflakeHook(snowflake_conn_id=self.conn_id)
        with _errors("Connecting"):
            connection = hook.get_conn()
        with closing(connection), closing(connection.cursor()) as cursor:
            stage = hook.get_connection(self.conn_id).extra_dejson.get("stage")
            place, inserted, replaced = load_into(cursor, table, rows, objects, stage)
        account = hook._get_conn_params().get("account") or ""
        parts = place.parts
        location = Location(f"snowflake://{account}/{'/'.join(parts)}", f"snowflake://{account}", ".".join(parts))
        return Loaded(location, sum(lines.rows for lines in objects), inserted, replaced)


def load_into(
    cursor: Any, table: TableName, rows: Rows, objects: Sequence[Lines], external_stage: str | None = None
) -> tuple[TableName, int, int]:
    """
    Load through a cursor.

    :param external_stage: its name, as in SQL
    :return: the table with its database and schema, the rows inserted, the rows replaced
    """
    with _errors("Staging the rows"):
        place = _place(cursor, table)
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted('snowflake', *place.parts[:2])}")
        name = f"STRIPE_IDENTITY_{uuid.uuid4().hex.upper()}"
        stage = staged = quoted("snowflake", *place.parts[:2], name)
        cursor.execute(f"CREATE TEMPORARY STAGE {stage}")
        cursor.execute(f"CREATE TEMPORARY TABLE {staged} (line VARIANT, as_of BIGINT)")
        external, url = _external(cursor, external_stage) if external_stage else ("", None)
        for number, lines in enumerate(objects):
            if url and (path := _path_below(url, lines.written.uri)):
                for _ in lines:  # Snowflake would quote a line that is wrong.
                    pass
                # FILES, because a path alone would mean every file whose name begins with it.
                source = f"{_text(f'@{external}/{path[0]}')}) FILES = ({_text(path[1])}"
            else:
                source = f"@{stage}/{number}.jsonl"
                with tempfile.TemporaryFile() as spool:
                    spool.writelines(lines)
                    spool.seek(0)
                    cursor.execute(f"PUT file://{number}.jsonl @{stage} AUTO_COMPRESS = TRUE", file_stream=spool)
            as_of = "NULL" if lines.written.as_of is None else lines.written.as_of
            cursor.execute(
                f"COPY INTO {staged} (line, as_of) FROM (SELECT $1, {as_of} FROM {source}) FILE_FORMAT = (TYPE = JSON)"
            )
    with _errors(f"Preparing table {place.sql}"):
        database, *rest = place.parts
        cursor.execute(_COLUMNS.format(database=quoted("snowflake", database)), tuple(rest))
        create_or_extend(cursor.execute, place, rows, cursor.fetchall())
    with _errors(f"Merging into {place.sql}"):
        cursor.execute(rows.merge("snowflake", place.sql, _typed(staged, rows.columns)))
        inserted, replaced = cursor.fetchone()
    return place, inserted, replaced


def _external(cursor: Any, stage: str) -> tuple[str, str]:
    """
    Return an external stage as it is written in SQL, and the URL of its folder.

    :raises LoadError: if it is no external stage
    """
    try:
        name = parse_table_name("snowflake", stage).sql
    except ValueError:
        raise LoadError("connection's extra stage must be the name of a stage, such as raw.lake") from None
    cursor.execute(f"DESC STAGE {name}")
    for _, key, _, value, *_ in cursor.fetchall():
        if key == "URL" and (found := value.strip('[]"')):
            return name, found if found.endswith("/") else f"{found}/"
    raise LoadError(f"stage {name} is no external stage")


def _path_below(url: str, uri: str) -> tuple[str, str] | None:
    """Return the folder and the name of an object within the folder of a stage, or None if it lies elsewhere."""
    scheme, _, rest = uri.partition("://")
    uri = f"{_SCHEMES.get(scheme, scheme)}://{rest}"
    if not uri.startswith(url):
        return None
    folder, slash, file = uri[len(url) :].rpartition("/")
    return folder + slash, file


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _typed(staged: str, columns: Sequence[Field]) -> str:
    def value(column: Field) -> str:
        found = f"GET(line, {_text(column.name)})"
        return f"STRIP_NULL_VALUE({found})" if column.type == "json" else f"{found}::{TYPES['snowflake'][column.type]}"

    selected = ", ".join(f"{value(column)} AS {column_name('snowflake', column)}" for column in columns)
    return f"(SELECT {selected}, as_of AS _as_of FROM {staged})"


def _place(cursor: Any, table: TableName) -> TableName:
    cursor.execute("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()")
    here = cursor.fetchone()
    parts = (*here[: 3 - len(table.parts)], *table.parts)
    if None in parts:
        raise LoadError(f"table {table.sql}: the connection names no database or schema, so the table must")
    return TableName("snowflake", parts)


@contextmanager
def _errors(doing: str) -> Iterator[None]:
    """Raise the connector's errors without what they quote."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("snowflake.connector"):
            raise
        state = getattr(error, "sqlstate", None)
        name = f"{type(error).__name__} {getattr(error, 'errno', '')} {state or ''}".strip()
        query = getattr(error, "sfqid", None)
        raise warehouse_error(
            doing, state, name, getattr(error, "raw_msg", None) or str(error), f"query {query}" if query else ""
        ) from None

"""PostgreSQL: ``COPY FROM STDIN`` of whole lines, then one merge, all in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity._warehouse.errors import LoadError, warehouse_error
from airflow_provider_stripe_identity._warehouse.tables import TableName, create_or_extend, not_the_key
from airflow_provider_stripe_identity._warehouse.warehouse import Loaded, Location, Warehouse
from airflow_provider_stripe_identity.schema.columns import TYPES, column_name, quoted

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._export.fields import Field
    from airflow_provider_stripe_identity._warehouse.objects import Lines
    from airflow_provider_stripe_identity._warehouse.rows import Rows

# JSON holds no control characters, so lines need no escapes between these.
_COPY = (
    "COPY pg_temp.stripe_identity_staged (line, as_of)"
    " FROM STDIN (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02', ENCODING 'UTF8')"
)
_COPY_BYTES = 256 * 1024
_COLUMNS = """\
SELECT attname, format_type(atttypid, atttypmod),
    attnotnull AND NOT atthasdef AND attidentity = '' AND attgenerated = ''
FROM pg_attribute WHERE attrelid = CAST(%s AS REGCLASS) AND attnum > 0 AND NOT attisdropped
"""
_UNIQUE = """\
SELECT count(*) FROM pg_index WHERE indrelid = CAST(%s AS REGCLASS) AND indisunique AND indpred IS NULL
    AND indexprs IS NULL AND %s = ARRAY(
        SELECT CAST(attname AS TEXT) FROM unnest(CAST(indkey AS SMALLINT[])) WITH ORDINALITY AS part(number, place)
        JOIN pg_attribute ON attrelid = indrelid AND attnum = number WHERE place <= indnkeyatts ORDER BY attname
    )
"""


class Postgres(Warehouse):
    """A database behind a connection of type ``postgres``."""

    dialect = "postgres"

    def load(self, table: TableName, rows: Rows, objects: Sequence[Lines]) -> Loaded:
        """Stage, then wait for other loads of the table, prepare the table, merge, commit."""
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        hook = PostgresHook(self.conn_id)
        with _errors("Connecting"):
            connection = hook.get_conn()
        with closing(connection), connection.cursor() as cursor:
            with _errors("Staging the rows"):
                cursor.execute("CREATE TEMP TABLE stripe_identity_staged (line JSONB, as_of BIGINT) ON COMMIT DROP")
                for lines in objects:
                    _copy(cursor, _copied(lines))
            with _errors(f"Preparing table {table.sql}"):
                place = _place(cursor, table)
                # Nothing is locked yet that another load could want, so loads of one table queue here.
                cursor.execute(
                    "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"stripe_identity {place.sql}"]
                )
                _prepare(cursor, place, rows)
            with _errors(f"Merging into {place.sql}"):
                merge = rows.merge("postgres", place.sql, _staged(rows.columns))
                inserted, replaced = _one(
                    cursor,
                    f"WITH merged AS ({merge} RETURNING kept.xmax = 0 AS inserted) "
                    "SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM merged",
                )
                (database,) = _one(cursor, "SELECT current_database()")
                connection.commit()
        return Loaded(_location(hook, database, place), sum(lines.rows for lines in objects), inserted, replaced)


def _copied(lines: Lines) -> Iterator[bytes]:
    """Pieces of what COPY reads."""
    end = f"\x01{'' if lines.written.as_of is None else lines.written.as_of}\n".encode()
    piece = bytearray()
    for line in lines:
        piece += without_nul(line)
        piece[-1:] = end
        if len(piece) > _COPY_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def without_nul(line: bytes) -> bytes:
    """Return a line that PostgreSQL can store: its texts have every character but NUL, which becomes U+FFFD."""
    if b"\\u0000" not in line:
        return line
    import msgspec

    def replaced(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("\0", "\ufffd")
        if isinstance(value, dict):
            return {replaced(key): replaced(item) for key, item in value.items()}
        return [replaced(item) for item in value] if isinstance(value, list) else value

    return msgspec.json.encode(replaced(msgspec.json.decode(line))) + b"\n"


def _copy(cursor: Any, pieces: Iterable[bytes]) -> None:
    if hasattr(cursor, "copy"):  # psycopg 3
        with cursor.copy(_COPY) as copy:
            for piece in pieces:
                copy.write(piece)
    else:
        file = _Pieces(pieces)
        try:
            cursor.copy_expert(_COPY, file, _COPY_BYTES)
        except Exception as error:
            raise file.error or error from None


class _Pieces:
    """The file that psycopg 2 wants."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""
        #: What reading raised: psycopg 2 keeps no more of it than its text.
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        try:
            while not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    return b""
                self._rest = piece
            found, self._rest = self._rest[:size], self._rest[size:]
        except BaseException as error:
            self.error = error
            raise
        return found


def _one(cursor: Any, statement: str, *values: Any) -> tuple[Any, ...]:
    return _all(cursor, statement, *values)[0]


def _all(cursor: Any, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    cursor.execute(statement, values or None)
    # The connection's extra may ask for cursors whose rows are dictionaries.
    return [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in cursor.fetchall()]


def _place(cursor: Any, table: TableName) -> TableName:
    """Return the schema and name of the table, whether it is there or not."""
    parts = table.parts
    if len(parts) == 3:
        (database,) = _one(cursor, "SELECT current_database()")
        if parts[0] != database:
            raise LoadError(f"table {table.sql}: the connection is to database {quoted('postgres', database)}")
        parts = parts[1:]
    if len(parts) == 1:
        (found,) = _one(
            cursor,
            "SELECT COALESCE((SELECT nspname FROM pg_class JOIN pg_namespace AS of_it ON of_it.oid = relnamespace"
            " WHERE pg_class.oid = to_regclass(%s)), current_schema())",
            table.sql,
        )
        if found is None:
            raise LoadError(f"table {table.sql}: the search path of the connection names no existing schema")
        parts = (found, *parts)
    return TableName("postgres", parts)


def _prepare(cursor: Any, table: TableName, rows: Rows) -> None:
    """Create the table, or add the columns that it does not have."""
    schema = quoted("postgres", table.parts[0])
    if _one(cursor, "SELECT to_regnamespace(%s) IS NULL", schema)[0]:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('stripe_identity schemas', 0))")
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    (kind,) = _one(cursor, "SELECT (SELECT relkind FROM pg_class WHERE oid = to_regclass(%s))", table.sql)
    if kind not in (None, "r", "p"):
        raise LoadError(f"table {table.sql} is a view or some other relation, not a table")
    found = _all(cursor, _COLUMNS, table.sql) if kind else []
    create_or_extend(cursor.execute, table, rows, found)
    if kind and not _one(cursor, _UNIQUE, table.sql, sorted(rows.key))[0]:
        raise not_the_key(table, rows.key)


def _staged(columns: Sequence[Field]) -> str:
    record = ", ".join(f"{quoted('postgres', column.name)} {TYPES['postgres'][column.type]}" for column in columns)
    selected = ", ".join(
        f"record.{quoted('postgres', column.name)} AS {column_name('postgres', column)}" for column in columns
    )
    return (
        f"(SELECT {selected}, as_of AS _as_of"
        f" FROM pg_temp.stripe_identity_staged, jsonb_to_record(line) AS record({record}))"
    )


def _location(hook: Any, database: str, table: TableName) -> Location:
    connection = hook.get_connection(hook.get_conn_id())
    authority = f"{connection.host or 'localhost'}:{connection.port or 5432}"
    return Location(
        f"postgres://{authority}/{'/'.join([database, *table.parts])}",
        f"postgres://{authority}",
        ".".join([database, *table.parts]),
    )


@contextmanager
def _errors(doing: str) -> Iterator[None]:
    """Raise psycopg's errors without what they quote."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("psycopg"):
            raise
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        diagnosis = getattr(error, "diag", None)
        place = [getattr(diagnosis, f"{part}_name", None) for part in ("table", "column", "constraint")]
        raise warehouse_error(
            doing,
            state,
            f"{type(error).__name__} {state or ''}".strip(),
            getattr(diagnosis, "message_primary", None) or str(error),
            " ".join(filter(None, place)),
        ) from None

"""DuckDB: its reader of JSON on a local file, and inserts or merges part by part, in one transaction."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from airflow_provider_stripe_identity._airflow.version_compat import BaseHook
from airflow_provider_stripe_identity._warehouse.errors import LoadError, warehouse_error
from airflow_provider_stripe_identity._warehouse.tables import TableName, create_or_extend, not_the_key
from airflow_provider_stripe_identity._warehouse.warehouse import Loaded, Location, Warehouse
from airflow_provider_stripe_identity.schema.columns import TYPES, column_name, quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from tenacity import RetryCallState

    from airflow_provider_stripe_identity._export.fields import Field
    from airflow_provider_stripe_identity._warehouse.objects import Lines
    from airflow_provider_stripe_identity._warehouse.rows import Rows

log = logging.getLogger(__name__)

#: One process at a time can have a file open for writing. Loads hold it for seconds, so others wait this long.
WAIT_FOR_THE_FILE = 600.0
#: Loads in threads of one process share an open file, and with it the limit of its memory.
_WRITING = threading.Lock()
#: What is read and merged at once: DuckDB holds it in memory.
_PART_BYTES = 4 * 2**20
#: Memory for the rows of a new table; what is more it keeps in a temporary file beside the database. The key's index
#: must stay in memory.
_INSERT_BYTES, _INDEX_BYTES_OF_A_ROW = 56_000_000, 40
#: Without these its memory grows faster with the number of rows. No limit where it merges: the index of a large table
#: does not fit in a small one.
_SETTINGS = {
    "preserve_insertion_order": "false",  # the merge needs no order of the lines
    "threads": "1",
    "write_buffer_row_group_count": "1",
    "allocator_flush_threshold": "'1MB'",
}

_COLUMNS = """\
SELECT column_name, data_type, NOT is_nullable AND column_default IS NULL
FROM duckdb_columns() WHERE database_name = ? AND schema_name = ? AND table_name = ?
"""
_UNIQUE = """\
SELECT count(*) FROM duckdb_constraints() WHERE database_name = ? AND schema_name = ? AND table_name = ?
    AND constraint_type IN ('PRIMARY KEY', 'UNIQUE') AND list_sort(constraint_column_names) = ?
"""
_IS_VIEW = "SELECT count(*) FROM duckdb_views() WHERE database_name = ? AND schema_name = ? AND view_name = ?"


class _Part(NamedTuple):
    """
    Lines of one object.

    :param start: where they begin in the local copy, in bytes
    :param longest: bytes of the longest of them
    """

    as_of: int | None
    start: int
    size: int
    longest: int


class DuckDB(Warehouse):
    """
    A file, or MotherDuck, behind a connection of type ``duckdb``.

    ``host`` is the path of the file. With ``password``, a MotherDuck token, ``schema`` is the database there. Extra
    ``attach`` maps names to files to attach: ``{"attach": {"lake": "/data/lake.duckdb"}}``.
    """

    dialect = "duckdb"

    def load(self, table: TableName, rows: Rows, objects: Sequence[Lines]) -> Loaded:
        """Copy the objects to local files, then open the database for as long as the merge takes."""
        from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

        # A file without a name: the operating system deletes it when the process exits, even after SIGKILL.
        with tempfile.TemporaryFile() as spool:
            parts = [part for lines in objects for part in _copy(lines, spool)]
            staged = sum(lines.rows for lines in objects)
            busy = Retrying(
                retry=retry_if_exception(_is_busy),
                stop=stop_after_delay(WAIT_FOR_THE_FILE),
                wait=wait_random(0.1, 0.5),
                before_sleep=_say_that_it_waits,
                reraise=True,
            )
            with _errors(f"Merging into {table.sql}"):
                place, inserted, replaced = busy(self._write, table, rows, spool, parts, staged)
        return Loaded(self._location(place), staged, inserted, replaced)

    def _write(
        self, table: TableName, rows: Rows, spool: IO[bytes], parts: Sequence[_Part], staged: int
    ) -> tuple[TableName, int, int]:
        """Insert into an empty table, merge into another: merging takes three times as long, and more memory."""
        import duckdb

        with _WRITING, self._connect() as warehouse, tempfile.TemporaryFile() as file:
            place, before = _begin(warehouse, table, rows)
            if not before:
                limit = _INSERT_BYTES + _INDEX_BYTES_OF_A_ROW * staged
                try:
                    warehouse.execute(f"SET memory_limit = '{limit}B'")
                    for part in _cut(spool, parts, file):
                        warehouse.execute(rows.insert("duckdb", place.sql, _staged(file, part, rows.columns)))
                    warehouse.execute(rows.merge("duckdb", place.sql, f"(SELECT * FROM {place.sql} LIMIT 0)"))
                    warehouse.commit()
                except (duckdb.ConstraintException, duckdb.OutOfMemoryException):
                    # A key that comes twice, for one: which row stays is for a merge to say.
                    with suppress(duckdb.TransactionException):  # a commit that failed has ended it
                        warehouse.rollback()
                    warehouse.execute("RESET memory_limit")
                    place, before = _begin(warehouse, table, rows)
                else:
                    return place, staged, 0
            merged = sum(
                _one(warehouse, rows.merge("duckdb", place.sql, _staged(file, part, rows.columns)))
                for part in _cut(spool, parts, file)
            )
            inserted = _one(warehouse, f"SELECT count(*) FROM {place.sql}") - before
            warehouse.commit()
        return place, inserted, merged - inserted

    def _connect(self) -> DuckDBPyConnection:
        import duckdb

        connection = BaseHook.get_connection(self.conn_id)
        if connection.password:
            warehouse = duckdb.connect(
                f"md:{connection.schema or ''}", config={"motherduck_token": connection.password}
            )
        elif connection.host:
            warehouse = duckdb.connect(connection.host)
        else:
            raise LoadError(
                f"connection {self.conn_id}: host must be the path of a DuckDB file,"
                ' e.g. {"conn_type": "duckdb", "host": "/data/warehouse.duckdb"}'
            )
        try:
            for setting, value in _SETTINGS.items():
                with suppress(duckdb.CatalogException):  # an older DuckDB does not know it
                    warehouse.execute(f"SET {setting} = {value}")
            for name, path in (connection.extra_dejson.get("attach") or {}).items():
                file = str(path).replace("'", "''")
                warehouse.execute(f"ATTACH '{file}' AS {quoted('duckdb', name)}")
        except BaseException:
            warehouse.close()
            raise
        return warehouse

    def _location(self, table: TableName) -> Location:
        path = BaseHook.get_connection(self.conn_id).host or ""
        return Location(f"duckdb://{path}/{'.'.join(table.parts)}", f"duckdb://{path}", ".".join(table.parts))


def _copy(lines: Lines, spool: IO[bytes]) -> Iterator[_Part]:
    """Append the lines to a file, and yield the parts that they make."""
    start, size, longest = spool.tell(), 0, 0
    for line in lines:
        spool.write(line)
        size, longest = size + len(line), max(longest, len(line))
        if size > _PART_BYTES:
            yield _Part(lines.written.as_of, start, size, longest)
            start, size, longest = start + size, 0, 0
    if size:
        yield _Part(lines.written.as_of, start, size, longest)


def _cut(spool: IO[bytes], parts: Sequence[_Part], file: IO[bytes]) -> Iterator[_Part]:
    """Make one part after another the content of a file."""
    for part in parts:
        spool.seek(part.start)
        file.seek(0)
        file.write(spool.read(part.size))
        file.truncate()
        file.flush()
        yield part


def _staged(file: IO[bytes], part: _Part, columns: Sequence[Field]) -> str:
    def text(name: str) -> str:
        return "'" + name.replace("'", "''") + "'"

    types = ", ".join(f"{text(column.name)}: {text(TYPES['duckdb'][column.type])}" for column in columns)
    selected = ", ".join(f"{quoted('duckdb', column.name)} AS {column_name('duckdb', column)}" for column in columns)
    return (
        f"(SELECT {selected}, CAST({'NULL' if part.as_of is None else part.as_of} AS BIGINT) AS _as_of"
        f" FROM read_json('/dev/fd/{file.fileno()}', format = 'newline_delimited', compression = 'uncompressed',"
        f" maximum_object_size = {part.longest + 1}, columns = {{{types}}}))"
    )


def _one(warehouse: DuckDBPyConnection, statement: str, *values: Any) -> Any:
    found = warehouse.execute(statement, values).fetchone()
    return None if found is None else found[0]


def _begin(warehouse: DuckDBPyConnection, table: TableName, rows: Rows) -> tuple[TableName, int]:
    """Begin the transaction and prepare the table; return its whole name, and how many rows it has."""
    warehouse.begin()
    place = _place(warehouse, table)
    _prepare(warehouse, place, rows)
    return place, _one(warehouse, f"SELECT count(*) FROM {place.sql}")


def _place(warehouse: DuckDBPyConnection, table: TableName) -> TableName:
    """Return database, schema and name of the table, whether it is there or not."""
    database, schema = warehouse.execute("SELECT current_database(), current_schema()").fetchall()[0]
    parts = table.parts
    if len(parts) == 2 and _one(warehouse, "SELECT count(*) FROM duckdb_databases() WHERE database_name = ?", parts[0]):
        parts = (parts[0], "main", parts[1])  # as DuckDB itself reads it
    return TableName("duckdb", (database, schema, *parts)[-3:] if len(parts) == 1 else (database, *parts)[-3:])


def _prepare(warehouse: DuckDBPyConnection, table: TableName, rows: Rows) -> None:
    """Create the table, or add the columns that it does not have."""
    found = warehouse.execute(_COLUMNS, table.parts).fetchall()
    if found and _one(warehouse, _IS_VIEW, *table.parts):
        raise LoadError(f"table {table.sql} is a view")
    create_or_extend(warehouse.execute, table, rows, found, create_schema=True)
    if found and not _one(warehouse, _UNIQUE, *table.parts, sorted(rows.key)):
        raise not_the_key(table, rows.key)


def _is_busy(error: BaseException) -> bool:
    """Another process has the file open, or another thread of this one changes the same table."""
    import duckdb

    if isinstance(error, duckdb.IOException):
        return "lock" in str(error)
    # "Unique file handle conflict": another thread of this process is just opening or closing the file.
    in_use = isinstance(error, duckdb.Error) and "file handle conflict" in str(error)
    return in_use or isinstance(error, duckdb.TransactionException)


def _say_that_it_waits(state: RetryCallState) -> None:
    if state.attempt_number == 1:
        log.info("Another process has the DuckDB file open; waiting up to %d seconds for it", WAIT_FOR_THE_FILE)


#: What an error of DuckDB is in the terms of SQLSTATE. All others may pass: a full disk, a file that is locked.
_KINDS = {
    "22": ("ConversionException", "DataError", "InvalidInputException", "OutOfRangeException", "TypeMismatchException"),
    "23": ("ConstraintException",),
    "42": ("BinderException", "CatalogException", "ParserException", "PermissionException", "SyntaxException"),
}


@contextmanager
def _errors(doing: str) -> Iterator[None]:
    """Raise DuckDB's errors without what they quote."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        name = type(error).__name__
        kind = next((kind for kind, names in _KINDS.items() if name in names), None)
        raise warehouse_error(doing, kind, name, str(error)) from None

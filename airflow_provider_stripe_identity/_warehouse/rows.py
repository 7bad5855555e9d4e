"""Which table the rows of an object belong in: its columns, its statement of creation and its merge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS, Field, Fields, Type

if TYPE_CHECKING:
    from airflow_provider_stripe_identity.schema import Dialect


class Rows(ABC):
    """
    The rows of one table.

    :param fields: as in the export
    :param extra_columns: types by name
    :raises ValueError: naming the argument
    """

    #: What identifies a row.
    key: ClassVar[tuple[str, ...]]
    #: Read from the lines.
    columns: tuple[Field, ...]
    #: Of the table.
    table_columns: tuple[Field, ...]
    #: What an insert writes where that is not the column itself.
    _values: ClassVar[Mapping[str, str]] = {}

    def __init__(self, fields: Fields = DEFAULT_FIELDS, extra_columns: Mapping[str, Type] | None = None) -> None:
        self.fields = fields
        self.extra_columns = dict(extra_columns or {})

    @abstractmethod
    def ddl(self, dialect: Dialect, table: str) -> str:
        """Return the statement that creates the table."""

    @abstractmethod
    def merge(self, dialect: Dialect, table: str, staged: str) -> str:
        """
        Return the statement that merges staged rows.

        :param staged: a relation of the columns and of ``_as_of``, the time at which the row's object was read
        """

    def insert(self, dialect: Dialect, table: str, staged: str) -> str:
        """
        Return the statement that inserts rows whose keys the table does not have, each once.

        A merge without rows must follow: redaction reaches rows of other objects too.

        :param staged: as in :meth:`merge`
        """
        from airflow_provider_stripe_identity.schema.columns import column_name

        names = [column_name(dialect, column) for column in self.table_columns]
        values = [self._values.get(name, name) for name in names]
        return f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} FROM {staged} AS loaded"

    def add_columns(self, dialect: Dialect, table: str, missing: Iterable[Field]) -> list[str]:
        """Return the statements that add columns to a table."""
        from airflow_provider_stripe_identity.schema.columns import add_columns

        return add_columns(dialect, table, missing)


class SessionRows(Rows):
    """A row per session, its latest state: :mod:`airflow_provider_stripe_identity.schema.sessions`."""

    key = ("id",)
    _values: ClassVar[Mapping[str, str]] = {"_as_of": "COALESCE(_as_of, _event_created + 1)"}

    def __init__(self, fields: Fields = DEFAULT_FIELDS, extra_columns: Mapping[str, Type] | None = None) -> None:
        from airflow_provider_stripe_identity.schema import AS_OF, columns

        super().__init__(fields, extra_columns)
        self.columns = columns(fields, extra_columns=self.extra_columns)
        self.table_columns = (*self.columns, AS_OF)

    def ddl(self, dialect: Dialect, table: str) -> str:
        """Return the statement that creates the table."""
        from airflow_provider_stripe_identity.schema import ddl

        return ddl(dialect, table, fields=self.fields, extra_columns=self.extra_columns)

    def merge(self, dialect: Dialect, table: str, staged: str) -> str:
        """Keep the row of a session that holds most."""
        from airflow_provider_stripe_identity.schema import merge

        return merge(dialect, table, staged, as_of="_as_of", fields=self.fields, extra_columns=self.extra_columns)


class EventRows(Rows):
    """A row per event, the history of every session: :mod:`airflow_provider_stripe_identity.schema.events`."""

    key = ("id", "_event_id")

    def __init__(self, fields: Fields = DEFAULT_FIELDS, extra_columns: Mapping[str, Type] | None = None) -> None:
        from airflow_provider_stripe_identity.schema import events

        super().__init__(fields, extra_columns)
        self.columns = self.table_columns = events.columns(fields, extra_columns=self.extra_columns)

    def ddl(self, dialect: Dialect, table: str) -> str:
        """Return the statement that creates the table."""
        from airflow_provider_stripe_identity.schema import events

        return events.ddl(dialect, table, fields=self.fields, extra_columns=self.extra_columns)

    def merge(self, dialect: Dialect, table: str, staged: str) -> str:
        """Add the events that are missing, and erase what redaction reaches."""
        from airflow_provider_stripe_identity.schema import events

        return events.merge(dialect, table, staged, fields=self.fields, extra_columns=self.extra_columns)

"""Names of tables as people write them, and whether an existing table fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_stripe_identity._warehouse.errors import LoadError
from airflow_provider_stripe_identity.schema.columns import folded, quoted

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._export.fields import Field, Type
    from airflow_provider_stripe_identity._warehouse.rows import Rows
    from airflow_provider_stripe_identity.schema import Dialect

_QUOTE: dict[str, str] = {"bigquery": "`"}
_PART = {'"': r'(?:"(?:[^"]|"")+"|[^\s".`]+)', "`": r"(?:`[^`]+`|[^\s\".`]+)"}


class TableName(NamedTuple):
    """The parts of a name, as the warehouse stores them."""

    dialect: Dialect
    parts: tuple[str, ...]

    @property
    def sql(self) -> str:
        """The name as it is written in SQL, whatever words and characters it holds."""
        return quoted(self.dialect, *self.parts)

    @property
    def table(self) -> str:
        """The last part."""
        return self.parts[-1]


def parse_table_name(dialect: Dialect, text: str) -> TableName:
    """
    Read ``table``, ``schema.table`` or ``database.schema.table``; each part may be quoted.

    :raises ValueError: naming the argument
    """
    quote = _QUOTE.get(dialect, '"')
    part = _PART[quote]
    whole = text.strip()
    if dialect == "bigquery" and re.fullmatch(r"`[^`]+`", whole):  # `project.dataset.table` in one pair of quotes
        whole = whole[1:-1]
    if not re.fullmatch(rf"{part}(?:\.{part}){{0,2}}", whole):
        raise ValueError(
            f"table must be a name such as verification_sessions or raw.verification_sessions, not {text!r}"
        )
    parts = [
        found[1:-1].replace(quote * 2, quote) if found.startswith(quote) else folded(dialect, found)
        for found in re.findall(part, whole)
    ]
    return TableName(dialect, tuple(parts))


class Existing(NamedTuple):
    """
    One column of an existing table.

    :param type: in the warehouse's words
    :param needs_value: it may not be null and has no default
    """

    type: str
    needs_value: bool


#: What a column of a type may be in an existing table, in the words of the warehouse's catalog.
_FITTING: dict[str, dict[Type, tuple[str, ...]]] = {
    "bigquery": {
        "boolean": ("BOOLEAN", "BOOL"),
        "integer": ("INTEGER", "INT64"),
        "json": ("JSON",),
        "text": ("STRING",),
    },
    "duckdb": {"boolean": ("BOOLEAN",), "integer": ("BIGINT", "HUGEINT"), "json": ("JSON",), "text": ("VARCHAR",)},
    "postgres": {
        "boolean": ("boolean",),
        "integer": ("bigint", "numeric"),
        "json": ("jsonb",),
        "text": ("text", "character varying"),
    },
    "redshift": {
        "boolean": ("boolean",),
        "integer": ("bigint",),
        "json": ("super",),
        "text": ("character varying",),
    },
    "snowflake": {
        "boolean": ("BOOLEAN",),
        "integer": ("NUMBER",),
        "json": ("VARIANT",),
        "text": ("TEXT",),
    },
}


def missing_columns(table: TableName, existing: Mapping[str, Existing], columns: Sequence[Field]) -> list[Field]:
    """
    Return the columns that a table needs and does not have.

    :param existing: the columns of the table by name
    :param columns: those that a load writes
    :raises LoadError: for a table that a load cannot write to, with the differences
    """
    dialect = table.dialect
    have = {name.lower(): column for name, column in existing.items()}
    differences = []
    missing = []
    for column in columns:
        found = have.pop(column.name.lower(), None)
        fitting = _FITTING[dialect][column.type]
        if found is None:
            missing.append(column)
        elif found.type not in fitting:
            differences.append(f"column {column.name} is {found.type} and not {fitting[0]}")
    differences += [
        f"column {name} may not be null, and nothing is loaded into it"
        for name, column in have.items()
        if column.needs_value
    ]
    if len(missing) == len(columns):
        differences = [f"it has none of the columns {_listed(columns)}"]
    elif "id" in {column.name for column in missing}:
        differences.append("it has no column id")
    if differences:
        raise LoadError(f"table {table.sql} exists, but cannot be loaded into: {'; '.join(differences)}")
    return missing


def create_or_extend(
    execute: Callable[[str], Any],
    table: TableName,
    rows: Rows,
    found: Iterable[tuple[str, str, bool]],
    *,
    create_schema: bool = False,
) -> None:
    """
    Create a table, or add the columns that it does not have.

    :param execute: how the warehouse executes a statement
    :param found: name, type and whether it needs a value, of each column that there is; none if there is no table
    :param create_schema: whether the schema may be missing too
    :raises LoadError: as :func:`missing_columns`
    """
    existing = {name: Existing(kind, needs_value) for name, kind, needs_value in found}
    if existing:
        missing = missing_columns(table, existing, rows.table_columns)
        statements = rows.add_columns(table.dialect, table.sql, missing)
    else:
        schema = quoted(table.dialect, *table.parts[:-1])
        statements = [f"CREATE SCHEMA IF NOT EXISTS {schema}"] if create_schema else []
        statements.append(rows.ddl(table.dialect, table.sql))
    for statement in statements:
        execute(statement)


def not_the_key(table: TableName, key: Sequence[str]) -> LoadError:
    """Return the error for a table in which several rows may have one key."""
    return LoadError(
        f"table {table.sql} exists, but cannot be loaded into: {', '.join(key)} is neither its primary key nor unique"
    )


def _listed(columns: Iterable[Field]) -> str:
    names = [column.name for column in columns]
    return ", ".join(names if len(names) <= 5 else [*names[:5], "…"])

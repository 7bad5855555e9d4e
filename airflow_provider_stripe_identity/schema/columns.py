"""The columns of a table of rows: their types in five dialects, and as JSON schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from airflow_provider_stripe_identity._export.fields import (
    ACCOUNT_FIELD,
    DEFAULT_FIELDS,
    EVENT_FIELDS,
    FIELDS,
    Field,
    Fields,
    Type,
)

Dialect = Literal["bigquery", "duckdb", "postgres", "redshift", "snowflake"]

#: Of a row, in order: every field that may be written.
COLUMNS = tuple(field for field in FIELDS if not field.secret)
_NAMES = {column.name for column in COLUMNS}

TYPES: dict[Dialect, dict[Type, str]] = {
    "bigquery": {"boolean": "BOOL", "integer": "INT64", "json": "JSON", "text": "STRING"},
    "duckdb": {"boolean": "BOOLEAN", "integer": "BIGINT", "json": "JSON", "text": "VARCHAR"},
    "postgres": {"boolean": "BOOLEAN", "integer": "BIGINT", "json": "JSONB", "text": "TEXT"},
    "redshift": {"boolean": "BOOLEAN", "integer": "BIGINT", "json": "SUPER", "text": "VARCHAR(65535)"},
    "snowflake": {"boolean": "BOOLEAN", "integer": "BIGINT", "json": "VARIANT", "text": "VARCHAR"},
}
DIALECTS: tuple[Dialect, ...] = tuple(TYPES)

_JSON_TEXT: dict[Dialect, str] = {
    "bigquery": "JSON_VALUE({column}, '$.{key}')",
    "duckdb": "({column} ->> '{key}')",
    "postgres": "({column} ->> '{key}')",
    "redshift": "CAST({column}.{key} AS VARCHAR)",
    "snowflake": "CAST({column}:{key} AS VARCHAR)",
}


def columns(fields: Fields = DEFAULT_FIELDS, *, extra_columns: Mapping[str, Type] | None = None) -> tuple[Field, ...]:
    """
    Return the columns of a row, in order.

    :param fields: the operator's ``fields``; ``"all"`` takes the personal ones in
    :param extra_columns: types of the operator's ``extra_columns`` by name: ``boolean``, ``integer``, ``json`` or
        ``text``
    :raises ValueError: for a field that no column is known for, or without ``id``; for an extra column of another type,
        or of a name that is taken
    """
    known = {column.name for column in COLUMNS}
    if fields != "all":
        if isinstance(fields, str) or (unknown := set(fields) - known):
            raise ValueError(
                f"fields: no column is known for {fields if isinstance(fields, str) else _listed(unknown)}"
            )
        if "id" not in fields:
            raise ValueError("fields: id is missing, by which rows are merged")
    extra = extra_columns or {}
    if taken := [name for name in extra if name.lower() in {*known, "_as_of"}]:
        raise ValueError(f"extra_columns: {_listed(taken)} is a column of every table")
    if wrong := [
        name for name, kind in extra.items() if kind not in get_args(Type) or not name.isprintable() or not name
    ]:
        raise ValueError(f"extra_columns: the type of {_listed(wrong)} must be one of {', '.join(get_args(Type))}")
    return (
        *(column for column in COLUMNS if fields == "all" or column.name in (*fields, *EVENT_FIELDS, ACCOUNT_FIELD)),
        *(Field(name, kind, "one of your own", nullable=True) for name, kind in extra.items()),
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def quoted(dialect: Dialect, *parts: str) -> str:
    """
    Return a name of these parts as it is written in SQL, whatever words and characters they hold.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param parts: such as schema and table
    """
    quote = "`" if dialect == "bigquery" else '"'
    return ".".join(f"{quote}{part.replace(quote, quote * 2)}{quote}" for part in parts)


def folded(dialect: Dialect, name: str) -> str:
    """
    Return a name that is written without quotes as the warehouse stores it.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param name: as somebody writes it
    """
    if dialect in ("postgres", "redshift"):
        return name.lower()
    return name.upper() if dialect == "snowflake" else name


def column_name(dialect: Dialect, column: Field) -> str:
    """
    Return the name of a column as it is written in SQL; the names of extra columns may be any words.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param column: of a table of sessions or events
    """
    is_ours = column.name in _NAMES or column.name == "_as_of"
    return column.name if is_ours else quoted(dialect, folded(dialect, column.name))


def add_columns(dialect: Dialect, table: str, missing: Iterable[Field]) -> list[str]:
    """
    Return the statements that add columns to a table; rows that are there have no value for them.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param table: its name, as it is written in SQL
    :param missing: the columns
    :raises ValueError: for another dialect
    """
    types = TYPES[checked(dialect)]
    return [f"ALTER TABLE {table} ADD COLUMN {column_name(dialect, column)} {types[column.type]}" for column in missing]


def create_table(dialect: Dialect, table: str, columns: Sequence[Field], *, key: Sequence[str]) -> str:
    """
    Return the statement that creates a table, if it does not exist.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param table: its name, as it is written in SQL
    :param columns: its columns, in order
    :param key: the names of those that identify a row
    :raises ValueError: naming the argument
    """
    types = TYPES[checked(dialect)]
    lines = {
        f"{column_name(dialect, column)} {types[column.type]}{'' if column.nullable else ' NOT NULL'}": (
            f"  -- {'personal: ' if column.personal else ''}{column.description}"
        )
        for column in columns
    }
    if dialect != "bigquery":
        lines[f"PRIMARY KEY ({', '.join(key)})"] = ""
    last = list(lines)[-1]
    text = "".join(f"    {line}{'' if line is last else ','}{comment}\n" for line, comment in lines.items())
    return f"CREATE TABLE IF NOT EXISTS {table} (\n{text})\n"


def describe(columns: Iterable[Field], *, title: str) -> dict[str, Any]:
    """
    Return the JSON schema of a row.

    :param columns: its columns
    :param title: what a row is
    """
    properties = {column.name: _property(column) for column in columns}
    required = [column.name for column in columns if not column.nullable]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": properties,
        "required": required,
    }


def _property(column: Field) -> dict[str, Any]:
    kind = {"text": "string", "json": "object"}.get(column.type, column.type)
    return {
        "type": [kind, "null"] if column.nullable else kind,
        "description": column.description,
    }


def json_text(dialect: Dialect, column: str, key: str) -> str:
    """
    Return the expression for the text under a key of a JSON column.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param column: its name, with that of its table before it
    :param key: a top-level key
    """
    return _JSON_TEXT[checked(dialect)].format(column=column, key=key)


def checked(dialect: Dialect) -> Dialect:
    """
    Return a dialect that is known.

    :param dialect: as somebody wrote it
    :raises ValueError: for any other
    """
    if dialect not in TYPES:
        raise ValueError(f"dialect must be one of {', '.join(DIALECTS)}, not {dialect!r}")
    return dialect

"""
The rows in a warehouse: their columns, as tables of five dialects and as JSON schema, and how a table is kept true.

A table row is a session and the second ``_as_of`` before which, by Stripe's clock, every change is in it. A row
replaces the one with its id unless its ``_as_of`` is smaller. ``_as_of`` is

* of an export's rows and of refetched ones: ``as_of`` of the operator's result, a time at Stripe before the first
  request;
* of an event's snapshot: the second after ``_event_created``. Of several events in that second the row is the last one,
  since windows end on whole seconds.

So whatever order the objects are loaded in, and however often, the row that stays holds every change that any of
them is sure to hold. It is the session as it is in Stripe once its last event, or a read that began after its last
change, has been loaded: a smaller ``_as_of`` cannot win against it, and every row that equals it holds that change
as well.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from airflow_provider_stripe_identity.jsonl import DEFAULT_FIELDS, EVENT_COLUMNS, Fields

Dialect = Literal["bigquery", "duckdb", "postgres", "redshift", "snowflake"]
Type = Literal["boolean", "integer", "json", "text"]


class Column(NamedTuple):
    """
    One column of a row.

    :param nullable: whether it may be null or absent
    :param personal: whether it holds personal data, so that it is written only when asked for
    """

    name: str
    type: Type
    nullable: bool
    personal: bool
    description: str


COLUMNS = (
    Column("id", "text", False, False, "of the VerificationSession (vs_…)"),
    Column("object", "text", False, False, "always identity.verification_session"),
    Column("created", "integer", False, False, "epoch seconds; never changes"),
    Column("livemode", "boolean", False, False, "false in a sandbox"),
    Column("status", "text", False, False, "requires_input, processing, verified or canceled"),
    Column("type", "text", False, False, "document, id_number or verification_flow"),
    Column("client_reference_id", "text", True, False, "your reference to the person"),
    Column("last_error", "json", True, False, "code and reason of the last failed check"),
    Column("last_verification_report", "text", True, False, "id of the last report (vr_…)"),
    Column("metadata", "json", False, False, "your keys and values; empty after redaction"),
    Column("options", "json", True, False, "of the checks"),
    Column("redaction", "json", True, False, "status: processing or redacted"),
    Column("related_customer", "text", True, False, "Customer (cus_…)"),
    Column("related_customer_account", "text", True, False, "Account that represents a customer"),
    Column("related_person", "json", True, False, "Account and Person"),
    Column("verification_flow", "text", True, False, "configuration of the flow (vf_…)"),
    Column("provided_details", "json", True, True, "email and phone that you provided"),
    Column("verified_outputs", "json", True, True, "the verified data of the person"),
    Column("_event_id", "text", True, False, "event that the row comes from; null in an export"),
    Column("_event_type", "text", True, False, "what happened, e.g. identity.verification_session.verified"),
    Column("_event_created", "integer", True, False, "when it happened, epoch seconds"),
)
AS_OF = Column("_as_of", "integer", True, False, "every change before this second is in the row; set by the merge")

_TYPES: dict[Dialect, dict[Type, str]] = {
    "bigquery": {"boolean": "BOOL", "integer": "INT64", "json": "JSON", "text": "STRING"},
    "duckdb": {"boolean": "BOOLEAN", "integer": "BIGINT", "json": "JSON", "text": "VARCHAR"},
    "postgres": {"boolean": "BOOLEAN", "integer": "BIGINT", "json": "JSONB", "text": "TEXT"},
    "redshift": {"boolean": "BOOLEAN", "integer": "BIGINT", "json": "SUPER", "text": "VARCHAR(65535)"},
    "snowflake": {"boolean": "BOOLEAN", "integer": "BIGINT", "json": "VARIANT", "text": "VARCHAR"},
}
DIALECTS: tuple[Dialect, ...] = tuple(_TYPES)

_UPSERT = """\
INSERT INTO {table} AS kept ({columns})
SELECT {columns_but_as_of}, {as_of} FROM {staged} AS staged
ON CONFLICT (id) DO UPDATE SET
    {excluded}
WHERE excluded._as_of >= kept._as_of
"""
_MERGE = """\
MERGE INTO {table} AS kept
USING (SELECT {columns_but_as_of}, {as_of} AS _as_of FROM {staged} AS loaded) AS staged
ON kept.id = staged.id
WHEN MATCHED AND staged._as_of >= kept._as_of THEN UPDATE SET
    {assignments}
WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})
"""
# Redshift's MERGE knows no condition beside the match.
_REPLACE = """\
BEGIN;
UPDATE {staged} SET _as_of = {as_of};
DELETE FROM {table} USING {staged} AS staged WHERE {table}.id = staged.id AND staged._as_of >= {table}._as_of;
INSERT INTO {table} ({columns})
SELECT {columns} FROM {staged} WHERE id NOT IN (SELECT id FROM {table});
COMMIT;
"""
_MERGES: dict[Dialect, str] = {
    "bigquery": _MERGE,
    "duckdb": _UPSERT,
    "postgres": _UPSERT,
    "redshift": _REPLACE,
    "snowflake": _MERGE,
}


def columns(fields: Fields = DEFAULT_FIELDS) -> tuple[Column, ...]:
    """
    Return the columns of a row, in order.

    :param fields: the operator's ``fields``; ``"all"`` takes the personal ones in
    :raises ValueError: for a field that no column is known for, or without ``id``
    """
    if fields == "all":
        return COLUMNS
    if unknown := set(fields) - {column.name for column in COLUMNS}:
        raise ValueError(f"fields: no column is known for {', '.join(sorted(unknown))}")
    if "id" not in fields:
        raise ValueError("fields: id is missing, by which rows are merged")
    return tuple(column for column in COLUMNS if column.name in (*fields, *EVENT_COLUMNS))


def ddl(dialect: Dialect, table: str, *, fields: Fields = DEFAULT_FIELDS) -> str:
    """
    Return the statement that creates a table of rows, if it is not there.

    :param dialect: one of :data:`DIALECTS`
    :param table: its name, as it is written in SQL
    :param fields: the operator's ``fields``
    :raises ValueError: naming the argument
    """
    types = _TYPES[_checked(dialect)]
    lines = []
    for column in (*columns(fields), AS_OF):
        constraint = "" if column.nullable else " NOT NULL"
        if column.name == "id" and dialect != "bigquery":
            constraint = " PRIMARY KEY"
        personal = "personal: " if column.personal else ""
        comma = "" if column is AS_OF else ","
        lines.append(f"    {column.name} {types[column.type]}{constraint}{comma}  -- {personal}{column.description}\n")
    return f"CREATE TABLE IF NOT EXISTS {table} (\n{''.join(lines)})\n"


def merge(
    dialect: Dialect, table: str, staged: str, *, as_of: int | str | None, fields: Fields = DEFAULT_FIELDS
) -> str:
    """
    Return the SQL that brings a table up to date with the rows of one object.

    It is one statement, which may run beside others; for Redshift a transaction of several.

    :param dialect: one of :data:`DIALECTS`
    :param table: made by :func:`ddl`
    :param staged: the object's rows, each id once: a table of the same columns (for Redshift), or any query in brackets
    :param as_of: ``as_of`` of the result of the task that wrote the object: a number, None, or text that is a template
        or a parameter in SQL. A task that writes the same object again must have the same ``refetch``
    :param fields: the operator's ``fields``
    :raises ValueError: naming the argument
    """
    names = [column.name for column in columns(fields)]
    changing = [*names[1:], AS_OF.name]
    return _MERGES[_checked(dialect)].format(
        table=table,
        staged=staged,
        as_of=f"COALESCE({'NULL' if as_of is None else as_of}, _event_created + 1)",
        columns=", ".join([*names, AS_OF.name]),
        columns_but_as_of=", ".join(names),
        assignments=",\n    ".join(f"{name} = staged.{name}" for name in changing),
        excluded=",\n    ".join(f"{name} = excluded.{name}" for name in changing),
        values=", ".join(f"staged.{name}" for name in [*names, AS_OF.name]),
    )


def json_schema(*, fields: Fields = DEFAULT_FIELDS) -> dict[str, Any]:
    """Return the JSON schema of a line of the objects; lines may hold more, ``extra_columns`` for one."""
    properties = {column.name: _property(column) for column in columns(fields)}
    required = [column.name for column in columns(fields) if not column.nullable]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "VerificationSession",
        "type": "object",
        "properties": properties,
        "required": required,
    }


def _property(column: Column) -> dict[str, Any]:
    kind = {"text": "string", "json": "object"}.get(column.type, column.type)
    return {
        "type": [kind, "null"] if column.nullable else kind,
        "description": column.description,
    }


def _checked(dialect: Dialect) -> Dialect:
    if dialect not in _TYPES:
        raise ValueError(f"dialect must be one of {', '.join(DIALECTS)}, not {dialect!r}")
    return dialect

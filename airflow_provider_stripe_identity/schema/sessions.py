"""
The table of sessions: one row per session, with its latest state.

A table row is a session and the second ``_as_of`` before which, by Stripe's clock, every change is in it. A row
replaces the one with its id unless its ``_as_of`` is smaller. ``_as_of`` is

* of a row that was read, an export's or a refetched one: ``as_of`` of the operator's result, a time at Stripe before
  the first request, and more than a second after every event of the window;
* of an event's snapshot: the second after ``_event_created``. That tells the two kinds apart.

Of two rows with the same ``_as_of`` the one that holds more wins: a redacted one; else one that was read, which holds
every change before that second; else that of the event that is further in the lifecycle, because Stripe does not say in
which order the events of one second came.

So whatever order the objects are loaded in, and however often, the row that stays holds every change that any of
them is sure to hold. It is the session as it is in Stripe once its last event, or a read that began after its last
change, has been loaded.

What does not hold to the second: Stripe emits no event when ``metadata`` is updated or a redaction starts. An export's
``as_of`` is a lower bound (the start of its read less ``settle``), so the row of an event at ``as_of`` or later wins
against the export's, even if that had seen an update of ``metadata`` after the event. The update comes back with the
session's next event or the next export. An update before ``_as_of`` is always in the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS, Field, Fields, Type
from airflow_provider_stripe_identity._export.lifecycle import LIFECYCLE
from airflow_provider_stripe_identity.schema.columns import (
    Dialect,
    checked,
    column_name,
    columns,
    create_table,
    describe,
)

AS_OF = Field("_as_of", "integer", "every change before this second is in the row; set by the merge", nullable=True)

# Rows in the order of their ids: two merges side by side lock them in the same order, so neither waits for the other
# with a lock that the other wants.
_UPSERT = """\
INSERT INTO {table} AS kept ({columns})
SELECT DISTINCT ON (id) {columns}
FROM (SELECT {columns_but_as_of}, {as_of} AS _as_of FROM {staged} AS loaded) AS staged
ORDER BY id, _as_of DESC, {precedence} DESC
ON CONFLICT (id) DO UPDATE SET
    {excluded}
WHERE {excluded_is_later}
"""
_MERGE = """\
MERGE INTO {table} AS kept
USING (
    SELECT {columns}
    FROM (SELECT {columns_but_as_of}, {as_of} AS _as_of FROM {staged} AS loaded) AS staged
    WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY _as_of DESC, {precedence} DESC) = 1
) AS staged
ON kept.id = staged.id
WHEN MATCHED AND {staged_is_later} THEN UPDATE SET
    {assignments}
WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})
"""
# Redshift's MERGE knows no condition beside the match. The lock makes merges side by side wait for each other: without
# it one of them fails with a serializable isolation violation.
_REPLACE = """\
BEGIN;
LOCK {table};
UPDATE {staged} SET _as_of = {as_of};
DELETE FROM {table} USING {staged} AS staged WHERE {table}.id = staged.id AND {staged_is_later};
INSERT INTO {table} ({columns})
SELECT {columns} FROM {staged} AS staged WHERE id NOT IN (SELECT id FROM {table})
QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY _as_of DESC, {precedence} DESC) = 1;
COMMIT;
"""
_MERGES: dict[Dialect, str] = {
    "bigquery": _MERGE,
    "duckdb": _UPSERT,
    "postgres": _UPSERT,
    "redshift": _REPLACE,
    "snowflake": _MERGE,
}


def ddl(
    dialect: Dialect,
    table: str,
    *,
    fields: Fields = DEFAULT_FIELDS,
    extra_columns: Mapping[str, Type] | None = None,
) -> str:
    """
    Return the statement that creates a table of rows, if it does not exist.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param table: its name, as it is written in SQL
    :param fields: the operator's ``fields``
    :param extra_columns: types of the operator's ``extra_columns`` by name: ``boolean``, ``integer``, ``json`` or
        ``text``
    :raises ValueError: naming the argument
    """
    return create_table(dialect, table, (*columns(fields, extra_columns=extra_columns), AS_OF), key=("id",))


def merge(
    dialect: Dialect,
    table: str,
    staged: str,
    *,
    as_of: int | str | None,
    fields: Fields = DEFAULT_FIELDS,
    extra_columns: Mapping[str, Type] | None = None,
) -> str:
    """
    Return the SQL that brings a table up to date with the rows of one object, or of several.

    It is one statement, which may run beside others; for Redshift a transaction of several.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param table: made by :func:`ddl`
    :param staged: the rows: a table of the same columns (for Redshift), or any query in brackets. Of several rows of a
        session the one counts that would replace the others
    :param as_of: ``as_of`` of the result of the task that wrote the object: a number, None, or text that is a template
        or a parameter in SQL. A task that writes the same object again must have the same ``refetch``
    :param fields: the operator's ``fields``
    :param extra_columns: as in :func:`ddl`
    :raises ValueError: naming the argument
    """
    found = columns(fields, extra_columns=extra_columns)
    names = [column_name(checked(dialect), column) for column in found]
    changing = [name for name in (*names, AS_OF.name) if name != "id"]
    kept = table if dialect == "redshift" else "kept"
    knows_redaction = "redaction" in {column.name for column in found}

    def is_later(row: str) -> str:
        return (
            f"({row}._as_of > COALESCE({kept}._as_of, 0) OR {row}._as_of = {kept}._as_of"
            f" AND {_precedence(f'{row}.', knows_redaction)} >= {_precedence(f'{kept}.', knows_redaction)})"
        )

    return _MERGES[dialect].format(
        table=table,
        staged=staged,
        as_of=f"COALESCE({'NULL' if as_of is None else as_of}, _event_created + 1)",
        columns=", ".join([*names, AS_OF.name]),
        columns_but_as_of=", ".join(names),
        precedence=_precedence("", knows_redaction),
        assignments=",\n    ".join(f"{name} = staged.{name}" for name in changing),
        excluded=",\n    ".join(f"{name} = excluded.{name}" for name in changing),
        excluded_is_later=is_later("excluded"),
        staged_is_later=is_later("staged"),
        values=", ".join(f"staged.{name}" for name in [*names, AS_OF.name]),
    )


def _precedence(row: str, knows_redaction: bool) -> str:
    """
    Which of two rows with the same ``_as_of`` holds more: SQL for a number.

    A redaction is never undone. A row that was read holds every change before that second, an event's no later one than
    its own. Of two events in one second the one further in the lifecycle came later.
    """
    steps = " ".join(
        f"WHEN 'identity.verification_session.{change}' THEN {step}" for step, change in enumerate(LIFECYCLE)
    )
    number = (
        f"CASE WHEN {row}_as_of = {row}_event_created + 1 THEN CASE {row}_event_type {steps} ELSE -1 END"
        f" ELSE {len(LIFECYCLE)} END"
    )
    return f"({number} + CASE WHEN {row}redaction IS NULL THEN 0 ELSE 10 END)" if knows_redaction else number


def json_schema(*, fields: Fields = DEFAULT_FIELDS) -> dict[str, Any]:
    """
    Return the JSON schema of a line of the objects; lines may hold more, ``extra_columns`` for one.

    :param fields: those of the export
    :raises ValueError: naming a field that there is not
    """
    return describe(columns(fields), title="VerificationSession")

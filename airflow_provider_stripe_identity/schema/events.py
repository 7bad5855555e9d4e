"""
The table of events: one row per event, which is never replaced. It is the history of every session.

A table row is an event and the session as that event left it. Loading inserts the events that are missing, by
``_event_id``, so objects may be loaded in any order, overlap, and be loaded again.

**Redaction reaches the history.** Once a loaded row says that a session is redacted (its ``redacted`` event, or any
snapshot whose ``redaction`` does), ``metadata`` and the personal columns of all rows of that session are emptied by the
same merge, and those of rows that are loaded later. ``redaction`` then says so in each of them, as in Stripe's own
events after a redaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS, EVENT_FIELDS, Field, Fields, Type
from airflow_provider_stripe_identity.schema.columns import (
    Dialect,
    checked,
    column_name,
    create_table,
    describe,
    json_text,
)
from airflow_provider_stripe_identity.schema.columns import columns as columns_of_sessions

#: What identifies a row. ``_event_id`` would do; with ``id`` before it the key's index finds a session's rows.
KEY = ("id", "_event_id")

_DESCRIPTIONS = {
    "_event_id": "id of the event (evt_…)",
    "_event_type": "what happened, e.g. identity.verification_session.verified",
    "_event_created": "when it happened, epoch seconds",
}
# What a merge writes: the events that are missing, and the rows that redaction has yet to reach.
_ROWS = """\
    WITH redacted AS (
        SELECT DISTINCT id FROM (
            SELECT id FROM {staged} AS event WHERE {is_redacted}
            UNION ALL
            SELECT id FROM {table} AS event WHERE {is_redacted_here}
        ) AS found
    )
    SELECT {inserted}
    FROM (
        SELECT {columns}, ROW_NUMBER() OVER (PARTITION BY _event_id ORDER BY _event_created) AS duplicate
        FROM {staged} AS loaded
    ) AS event LEFT JOIN redacted ON redacted.id = event.id
    WHERE event.duplicate = 1
        AND NOT EXISTS (SELECT 1 FROM {table} AS kept WHERE kept.id = event.id AND kept._event_id = event._event_id)
    UNION ALL
    SELECT {erased}
    FROM {table} AS event INNER JOIN redacted ON redacted.id = event.id
    WHERE {holds}"""
_UPSERT = f"""\
INSERT INTO {{table}} AS kept ({{columns}})
SELECT {{columns}} FROM (
{_ROWS}
) AS staged
ORDER BY id, _event_id
ON CONFLICT (id, _event_id) DO UPDATE SET
    {{excluded}}
"""  # noqa: S608
_MERGE = f"""\
MERGE INTO {{table}} AS kept
USING (
{_ROWS}
) AS staged
ON kept.id = staged.id AND kept._event_id = staged._event_id
WHEN MATCHED THEN UPDATE SET
    {{assignments}}
WHEN NOT MATCHED THEN INSERT ({{columns}}) VALUES ({{values}})
"""  # noqa: S608
_TRANSACTION = """\
BEGIN;
LOCK {table};
INSERT INTO {table} ({columns})
SELECT {columns} FROM {staged} AS event
WHERE NOT EXISTS (SELECT 1 FROM {table} AS kept WHERE kept.id = event.id AND kept._event_id = event._event_id)
QUALIFY ROW_NUMBER() OVER (PARTITION BY _event_id ORDER BY _event_created) = 1;
UPDATE {table} AS event SET
    {erasures}
WHERE id IN (SELECT id FROM {table} AS event WHERE {is_redacted}) AND ({holds});
COMMIT;
"""


class _Sql(NamedTuple):
    """
    What the dialects write differently.

    :param merge: the template
    :param json: a JSON value
    :param text: the text of a JSON value
    """

    merge: str
    json: str
    text: str


_DIALECTS: dict[Dialect, _Sql] = {
    "bigquery": _Sql(_MERGE, "JSON '{}'", "TO_JSON_STRING({})"),
    "duckdb": _Sql(_UPSERT, "CAST('{}' AS JSON)", "CAST({} AS VARCHAR)"),
    "postgres": _Sql(_UPSERT, "CAST('{}' AS JSONB)", "CAST({} AS TEXT)"),
    "redshift": _Sql(_TRANSACTION, "JSON_PARSE('{}')", "JSON_SERIALIZE({})"),
    "snowflake": _Sql(_MERGE, "PARSE_JSON('{}')", "TO_JSON({})"),
}


def columns(fields: Fields = DEFAULT_FIELDS, *, extra_columns: Mapping[str, Type] | None = None) -> tuple[Field, ...]:
    """
    Return the columns of a row, in order: the event's, then the session's.

    :param fields: the operator's ``fields``; ``"all"`` takes the personal ones in
    :param extra_columns: types of the operator's ``extra_columns`` by name: ``boolean``, ``integer``, ``json`` or
        ``text``
    :raises ValueError: naming the argument
    """
    found = columns_of_sessions(fields, extra_columns=extra_columns)
    events = [
        column._replace(nullable=False, description=_DESCRIPTIONS[column.name])
        for column in found
        if column.name in EVENT_FIELDS
    ]
    return (*events, *(column for column in found if column.name not in EVENT_FIELDS))


def ddl(
    dialect: Dialect,
    table: str,
    *,
    fields: Fields = DEFAULT_FIELDS,
    extra_columns: Mapping[str, Type] | None = None,
) -> str:
    """
    Return the statement that creates a table of events, if it does not exist.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param table: its name, as it is written in SQL
    :param fields: the operator's ``fields``
    :param extra_columns: as in :func:`columns`
    :raises ValueError: naming the argument
    """
    return create_table(dialect, table, columns(fields, extra_columns=extra_columns), key=KEY)


def merge(
    dialect: Dialect,
    table: str,
    staged: str,
    *,
    fields: Fields = DEFAULT_FIELDS,
    extra_columns: Mapping[str, Type] | None = None,
) -> str:
    """
    Return the SQL that adds events to a table, and erases what redaction reaches.

    It is one statement; for Redshift a transaction of several. Run the merges of a table one after another, as the load
    operator does: of two at the same time, one with an event and the other with the redaction of its session, neither
    sees the other's rows, and BigQuery would insert an event twice that both have.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param table: made by :func:`ddl`
    :param staged: the rows of one object, or of several: a table of the same columns, or any query in brackets
    :param fields: the operator's ``fields``
    :param extra_columns: as in :func:`columns`
    :raises ValueError: naming the argument
    """
    sql = _DIALECTS[checked(dialect)]
    found = columns(fields, extra_columns=extra_columns)
    names = [column_name(dialect, column) for column in found]
    status = json_text(dialect, "event.redaction", "status")
    is_redacted = "event._event_type = 'identity.verification_session.redacted'"
    erased, holds = {}, []
    for column in found:
        if column.name == "metadata":
            erased["metadata"] = sql.json.format("{}")
            holds.append(f"{sql.text.format('event.metadata')} <> '{{}}'")
        elif column.name == "redaction":
            is_redacted += f" OR {status} = 'redacted'"
            erased["redaction"] = sql.json.format('{"status": "redacted"}')
            holds.append(f"COALESCE({status}, '') <> 'redacted'")
        elif column.personal:
            erased[column.name] = "NULL"
            holds.append(f"event.{column.name} IS NOT NULL")
    if not erased:  # nothing that redaction reaches
        erased, holds = {"_event_created": "event._event_created"}, ["1 = 0"]
    is_redacted_here = is_redacted
    if dialect == "postgres":  # which reads a session by its key faster than all rows; the others are made for columns
        is_redacted_here = f"({is_redacted}) AND id IN (SELECT id FROM {staged} AS loaded)"  # noqa: S608
    return sql.merge.format(
        table=table,
        staged=staged,
        columns=", ".join(names),
        is_redacted=is_redacted,
        is_redacted_here=is_redacted_here,
        holds=" OR ".join(holds),
        inserted=", ".join(
            f"CASE WHEN redacted.id IS NULL THEN event.{name} ELSE {erased[name]} END AS {name}"
            if name in erased
            else f"event.{name}"
            for name in names
        ),
        erased=", ".join(erased.get(name, f"event.{name}") for name in names),
        erasures=",\n    ".join(f"{name} = {value}" for name, value in erased.items()),
        assignments=",\n    ".join(f"{name} = staged.{name}" for name in erased),
        excluded=",\n    ".join(f"{name} = excluded.{name}" for name in erased),
        values=", ".join(f"staged.{name}" for name in names),
    )


def json_schema(*, fields: Fields = DEFAULT_FIELDS) -> dict[str, Any]:
    """
    Return the JSON schema of a line of the objects; lines may hold more, ``extra_columns`` for one.

    :param fields: those of the export
    :raises ValueError: naming a field that there is not
    """
    return describe(columns(fields), title="VerificationSession event")

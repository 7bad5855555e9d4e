"""What can go wrong between an object and a table, without a word of the rows: databases quote them in their errors."""

from __future__ import annotations

import re

from airflow_provider_stripe_identity._stripe_api.errors import scrub

#: What SQLSTATE says by its first two characters: https://www.postgresql.org/docs/current/errcodes-appendix.html.
#: Another try cannot change these: data, constraints, authorization, a missing database or schema, SQL and permissions.
_PERMANENT = frozenset({"22", "23", "28", "3D", "3F", "42"})
#: The texts of these quote values of rows.
_QUOTES_ROWS = frozenset({"22", "23"})


class LoadError(Exception):
    """A load that another try cannot change: a row, an object, a table or an argument does not fit."""


class WarehouseError(Exception):
    """A statement that the warehouse did not execute."""


def warehouse_error(doing: str, kind: str | None, name: str, message: str, place: str = "") -> Exception:
    """
    Return what to raise for an error of a database.

    :param doing: what was tried, e.g. ``Merging into "raw"."verification_sessions"``
    :param kind: SQLSTATE, or its first two characters; None where the database has none
    :param name: of the error, e.g. ``NotNullViolation 23502``
    :param message: the database's own words; left out where they may quote a row
    :param place: table, column or constraint, or the id by which the warehouse's administrator finds the statement
    """
    kind = (kind or "")[:2]
    if kind in _QUOTES_ROWS:
        words = "a value does not fit (the database's own words are left out, because they may quote the row)"
    else:
        words = scrub(re.split(r"\n(?:DETAIL|CONTEXT|LINE)", message.strip(), maxsplit=1)[0])
    text = f"{doing}: {', '.join(filter(None, (name, place)))}: {words}"
    return (LoadError if kind in _PERMANENT else WarehouseError)(text)

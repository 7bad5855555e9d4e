"""From sessions to JSON lines: only the fields that were asked for, one line per session."""

from __future__ import annotations

import gzip
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import IO, Any

import msgspec

from airflow_provider_stripe_identity._export.fields import (
    ACCOUNT_FIELD,
    DEFAULT_FIELDS,
    EVENT_FIELDS,
    FIELDS,
    PERSONAL_FIELDS,
    SECRET_FIELDS,
    Fields,
)
from airflow_provider_stripe_identity._stripe_api.errors import StripeAPIError, scrub

log = logging.getLogger(__name__)

_KNOWN_FIELDS = frozenset(field.name for field in FIELDS)

#: Chosen by measurement (``make bench``).
GZIP_LEVEL = 6
#: Rows are handed to the file in pieces of about this size: a call for each would cost more than the row.
WRITE_BYTES = 256 * 1024


class JsonLines:
    """
    Turns sessions into JSON lines, and keeps the figures of what it has turned.

    Every line is one JSON object in UTF-8 that ends with a newline; its keys come in Stripe's order, its values
    as Stripe sent them.

    :param fields: top-level fields to keep, or ``"all"``; ``client_secret`` and ``url`` are never kept
    :param expand: what the sessions were asked to expand, from the session on: ``verified_outputs``; it is kept
    :param event_columns: the sessions come with the fields of their event, which are kept
    :param account_column: the sessions come with the account that they were read from, which is kept
    :param extra_columns: merged into every row
    :raises ValueError: naming the argument
    """

    def __init__(
        self,
        fields: Fields = DEFAULT_FIELDS,
        *,
        expand: Sequence[str] = (),
        event_columns: bool = False,
        account_column: bool = False,
        extra_columns: Mapping[str, Any] | None = None,
    ) -> None:
        check_fields(fields)
        check_extra_columns(extra_columns, account_column=account_column)
        expanded = {path.split(".")[0] for path in expand}
        self._added_columns = (EVENT_FIELDS if event_columns else ()) + ((ACCOUNT_FIELD,) if account_column else ())
        self._allowed = None if fields == "all" else frozenset(fields).union(expanded, self._added_columns)
        self._report_is_expanded = "last_verification_report" in expanded
        self._extra_columns = dict(extra_columns or {})
        self._unknown = frozenset() if fields == "all" else frozenset(fields) - _KNOWN_FIELDS
        self._named: set[str] = set()
        self._encode_into = msgspec.json.Encoder().encode_into
        self.sessions = 0
        self.statuses: Counter[str] = Counter()
        self.oldest: int | None = None
        self.newest: int | None = None
        self.livemode: bool | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that rows may have, as far as they are known."""
        known = (name for name in (*DEFAULT_FIELDS, *PERSONAL_FIELDS) if self._allowed is None or name in self._allowed)
        return [*known, *self._added_columns, *self._extra_columns]

    def write(self, sessions: Iterable[Mapping[str, Any]], file: IO[bytes], *, compress: bool) -> None:
        """
        Write every session's row.

        :param compress: with gzip, without the time and name that would make equal exports differ
        """
        if compress:
            with gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0) as packed:
                self._write(sessions, packed)
        else:
            self._write(sessions, file)

    def _write(self, sessions: Iterable[Mapping[str, Any]], file: IO[bytes] | gzip.GzipFile) -> None:
        rows = bytearray()
        for session in sessions:
            try:
                self._encode_into(self.row(session), rows, -1)
            except RecursionError:  # it could be read where the stack was not as deep as here
                raise StripeAPIError("Writing rows", f"session {session['id']} is nested too deeply") from None
            self._count(session)
            rows += b"\n"
            if len(rows) > WRITE_BYTES:
                file.write(rows)
                rows.clear()
        file.write(rows)
        if self.sessions and (absent := self._unknown - self._named):
            log.warning("fields: no session had %s", ", ".join(sorted(absent)))

    def row(self, session: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is written of a session."""
        if not _KNOWN_FIELDS.issuperset(session):
            self._name_unknown(session)
        allowed = self._allowed
        if allowed is None:
            row = {name: value for name, value in session.items() if name not in SECRET_FIELDS}
        else:
            row = {name: value for name, value in session.items() if name in allowed}
        report = row.get("last_verification_report")
        if isinstance(report, dict) and not self._report_is_expanded:
            # A report is personal data; one that comes expanded although nobody asked stays its id.
            row["last_verification_report"] = report.get("id")
        row.update(self._extra_columns)
        return row

    def _count(self, session: Mapping[str, Any]) -> None:
        created = session["created"]
        self.sessions += 1
        self.statuses[str(session.get("status"))] += 1
        self.oldest = created if self.oldest is None else min(self.oldest, created)
        self.newest = created if self.newest is None else max(self.newest, created)
        self.livemode = session.get("livemode")

    def _name_unknown(self, session: Mapping[str, Any]) -> None:
        kept = "not written" if self._allowed is not None else "written"
        for name in session.keys() - _KNOWN_FIELDS - self._named:
            self._named.add(name)
            if self._allowed is None or name not in self._allowed:
                log.warning("Stripe sends a field this provider does not know, %s: %s", kept, scrub(name))


def check_fields(fields: Fields) -> None:
    """
    Refuse a selection that cannot be meant.

    :raises ValueError: for text other than ``"all"``, no field at all, a secret one, or one that looks misspelled
    """
    if fields == "all":
        return
    if isinstance(fields, str) or not fields or not all(isinstance(name, str) and name for name in fields):
        raise ValueError(f"fields must be a list of field names, or 'all', not {fields!r}")
    for name in set(fields) - _KNOWN_FIELDS:
        if close := get_close_matches(name.lower(), _KNOWN_FIELDS, n=1, cutoff=0.8):
            raise ValueError(f"fields: Stripe has no field {name!r}. Did you mean {close[0]!r}?")
        if not name.isidentifier():
            raise ValueError(f"fields: {name!r} is no name of a field. fields takes top-level names, and no templates")
    if secret := sorted(set(fields).intersection(SECRET_FIELDS)):
        raise ValueError(f"fields: {' and '.join(secret)} are single-use credentials and never written")


def check_extra_columns(extra_columns: Mapping[str, Any] | None, *, account_column: bool = False) -> None:
    """
    Refuse extra columns that would hide one of the rows' own.

    :param account_column: whether the rows have the column of the account; the mapped tasks of one account each may
        add it
    :raises ValueError: naming the column
    """
    if extra_columns is None:
        return
    if not isinstance(extra_columns, Mapping) or not all(isinstance(name, str) for name in extra_columns):
        raise ValueError("extra_columns must map column names to values")
    known = _KNOWN_FIELDS if account_column else _KNOWN_FIELDS - {ACCOUNT_FIELD}
    if taken := sorted(known.intersection(extra_columns)):
        raise ValueError(f"extra_columns: {', '.join(taken)} would hide the field of the same name")

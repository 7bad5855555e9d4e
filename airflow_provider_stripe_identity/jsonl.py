"""From sessions to JSON lines: only the fields that were asked for, one line a session."""

from __future__ import annotations

import gzip
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, Literal

import msgspec

from airflow_provider_stripe_identity.stripe_api.errors import StripeAPIError, scrub

log = logging.getLogger(__name__)

#: Top-level fields without secrets; personal only in as far as the caller's own ``metadata`` is.
DEFAULT_FIELDS = (
    "id",
    "object",
    "created",
    "livemode",
    "status",
    "type",
    "client_reference_id",
    "last_error",
    "last_verification_report",
    "metadata",
    "options",
    "redaction",
    "related_customer",
    "related_customer_account",
    "related_person",
    "verification_flow",
)
#: Personal data, written only when named in ``fields`` or asked for with ``expand``.
PERSONAL_FIELDS = ("provided_details", "verified_outputs")
#: Single-use credentials, never written.
SECRET_FIELDS = ("client_secret", "url")
#: What a row of changes says of the event that it comes from.
EVENT_COLUMNS = ("_event_id", "_event_type", "_event_created")
_KNOWN_FIELDS = frozenset(DEFAULT_FIELDS + PERSONAL_FIELDS + SECRET_FIELDS + EVENT_COLUMNS)

#: Chosen by measurement (``make bench``).
GZIP_LEVEL = 6
#: Rows are handed to the file in pieces of about this size: a call for each would cost more than the row.
WRITE_BYTES = 256 * 1024

Fields = Sequence[str] | Literal["all"]


class JsonLines:
    """
    Turns sessions into JSON lines, and keeps the figures of what it has turned.

    Every line is one JSON object in UTF-8 that ends with a newline; its keys come in Stripe's order, its values
    as Stripe sent them.

    :param fields: top-level fields to keep, or ``"all"``; ``client_secret`` and ``url`` are never kept
    :param expand: the paths that the sessions were asked for with; what was expanded is kept
    :param event_columns: the sessions come with :data:`EVENT_COLUMNS`, which are kept
    :param extra_columns: merged into every row
    :raises ValueError: naming the argument
    """

    def __init__(
        self,
        fields: Fields = DEFAULT_FIELDS,
        *,
        expand: Sequence[str] = (),
        event_columns: bool = False,
        extra_columns: Mapping[str, Any] | None = None,
    ) -> None:
        check_fields(fields)
        check_extra_columns(extra_columns)
        expanded = {path.split(".")[1] for path in expand}
        self._event_columns = EVENT_COLUMNS if event_columns else ()
        self._allowed = None if fields == "all" else frozenset(fields).union(expanded, self._event_columns)
        self._report_is_expanded = "last_verification_report" in expanded
        self._extra_columns = dict(extra_columns or {})
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
        return [*known, *self._event_columns, *self._extra_columns]

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

    :raises ValueError: for text other than ``"all"``, no field at all, or a secret one
    """
    if fields == "all":
        return
    if isinstance(fields, str) or not fields or not all(isinstance(name, str) and name for name in fields):
        raise ValueError(f"fields must be a list of field names, or 'all', not {fields!r}")
    if secret := sorted(set(fields).intersection(SECRET_FIELDS)):
        raise ValueError(f"fields: {' and '.join(secret)} are single-use credentials and never written")


def check_extra_columns(extra_columns: Mapping[str, Any] | None) -> None:
    """
    Refuse extra columns that would hide one of Stripe's.

    :raises ValueError: naming the column
    """
    if extra_columns is None:
        return
    if not isinstance(extra_columns, Mapping) or not all(isinstance(name, str) for name in extra_columns):
        raise ValueError("extra_columns must map column names to values")
    if taken := sorted(_KNOWN_FIELDS.intersection(extra_columns)):
        raise ValueError(f"extra_columns: {', '.join(taken)} would hide the field of the same name")

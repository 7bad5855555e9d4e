"""The query parameters of Stripe's list endpoints: checked before any request, then encoded."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

STATUSES = ("canceled", "processing", "requires_input", "verified")
EVENT_TYPES = tuple(
    f"identity.verification_session.{change}"
    for change in ("created", "processing", "verified", "requires_input", "canceled", "redacted")
)
MAX_PAGE_SIZE = 100
#: On a list, every path to expand starts with it (https://docs.stripe.com/api/expanding_objects).
_OF_A_LIST = "data."
#: The longest string that Stripe's specification allows in a query parameter.
MAX_TEXT = 5000
LAST_EPOCH = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())

#: Names and values, not yet percent-encoded.
Query = Sequence[tuple[str, str]]
Time = datetime | int | str
#: ``created`` as Stripe has it: one exact second, or any of ``gt``, ``gte``, ``lt``, ``lte``.
Created = Time | Mapping[str, Time]


def epoch_seconds(name: str, value: Time, *, rounding: Callable[[float], int] = math.ceil) -> int:
    """
    Return a time as Stripe has it: whole seconds since 1970 in UTC.

    :param name: the argument's name, for the error
    :param value: an aware ``datetime``, a naive one in UTC, epoch seconds, or ISO-8601 text with an offset
        (or epoch seconds as text, as templates render them)
    :param rounding: what to do with a fraction. As Stripe's times have none, ``>=`` and ``<`` of a fraction are
        those of the next second (``math.ceil``), ``>`` and ``<=`` those of the last one (``math.floor``)
    :raises ValueError: for anything else, naming the argument
    """
    if isinstance(value, str):
        value = _from_text(name, value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        seconds = int(moment.replace(microsecond=0).timestamp()) + rounding(moment.microsecond / 1_000_000)
    elif isinstance(value, int) and not isinstance(value, bool):
        seconds = value
    else:
        raise ValueError(f"{name} must be a datetime, whole epoch seconds or ISO-8601 text, not {type(value).__name__}")
    if not 0 <= seconds <= LAST_EPOCH:
        raise ValueError(f"{name} is out of range: {seconds} (epoch seconds are meant, not milliseconds)")
    return seconds


def _from_text(name: str, text: str) -> datetime | int:
    if re.fullmatch(r"\d{9,}", text, re.ASCII):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} is not ISO-8601 text such as 2026-01-31T00:00:00Z: {text[:40]!r}") from None
    if moment.tzinfo is None:
        raise ValueError(f"{name} has no UTC offset, write {moment.isoformat()}Z if UTC is meant: {text!r}")
    return moment


def created_query(created: Created | None) -> Query:
    """
    Encode ``created``.

    :raises ValueError: for an unknown comparison, or one that starts after it ends
    """
    if created is None:
        return []
    if not isinstance(created, Mapping):
        return [("created", str(epoch_seconds("created", created)))]
    if unknown := created.keys() - {"gt", "gte", "lt", "lte"}:
        raise ValueError(f"created knows gt, gte, lt and lte, not {', '.join(map(str, sorted(unknown)))}")
    bounds = {
        key: epoch_seconds(f"created[{key}]", value, rounding=math.ceil if key in ("gte", "lt") else math.floor)
        for key, value in created.items()
    }
    for start in bounds.keys() & {"gt", "gte"}:
        for end in bounds.keys() & {"lt", "lte"}:
            if bounds[start] > bounds[end]:
                raise ValueError(f"created[{start}] is after created[{end}]: {bounds[start]} > {bounds[end]}")
    return [(f"created[{key}]", str(value)) for key, value in bounds.items()]


def page_query(
    *, limit: int | None = None, starting_after: str | None = None, ending_before: str | None = None
) -> Query:
    """
    Encode what every list endpoint of Stripe's shares.

    :raises ValueError: for a limit outside 1-100, which Stripe would silently change, or for both cursors
    """
    if starting_after is not None and ending_before is not None:
        raise ValueError("starting_after and ending_before exclude each other; give one")
    query: list[tuple[str, str]] = [
        *text_query("starting_after", starting_after),
        *text_query("ending_before", ending_before),
    ]
    if limit is not None:
        query.append(("limit", str(checked_page_size("limit", limit))))
    return query


def checked_page_size(name: str, size: int) -> int:
    """Return ``size`` when Stripe serves pages of that many objects."""
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_PAGE_SIZE:
        raise ValueError(f"{name} must be a whole number from 1 to {MAX_PAGE_SIZE}, not {size!r}")
    return size


def verification_sessions_query(
    *,
    client_reference_id: str | None = None,
    created: Created | None = None,
    expand: Sequence[str] = (),
    related_customer: str | None = None,
    related_customer_account: str | None = None,
    status: str | None = None,
) -> Query:
    """
    Encode the filters of ``GET /v1/identity/verification_sessions``.

    :raises ValueError: naming the argument that Stripe would refuse
    """
    if status is not None and status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}, not {status!r}")
    from_the_session_on(expand)
    return [
        *text_query("client_reference_id", client_reference_id),
        *created_query(created),
        *text_query("related_customer", related_customer),
        *text_query("related_customer_account", related_customer_account),
        *text_query("status", status),
        *(("expand[]", path) for path in expand),
    ]


def events_query(*, types: Sequence[str]) -> Query:
    """
    Encode the filters of ``GET /v1/events``.

    :raises ValueError: for no type at all or more than Stripe's 20
    """
    if isinstance(types, str) or not 1 <= len(types) <= 20:
        raise ValueError("types must be a list of 1 to 20 event types, such as identity.verification_session.verified")
    return [("types[]", event_type) for event_type in types]


def checked_expand(expand: Sequence[str]) -> Sequence[str]:
    """Return ``expand`` when it is a list of paths of at most Stripe's four levels."""
    if isinstance(expand, str):
        raise ValueError(f"expand must be a list of fields, not the text {expand!r}")
    for path in expand:
        if not isinstance(path, str) or not 1 <= len(path.split(".")) <= 4 or not all(path.split(".")):
            raise ValueError(f"expand takes fields of at most four levels such as data.verified_outputs, not {path!r}")
    return expand


def from_the_session_on(expand: Sequence[str]) -> list[str]:
    """
    Return what a list is to expand, such as ``data.verified_outputs``, as it is called on one session.

    :raises ValueError: for a path that is none of a list's
    """
    for path in checked_expand(expand):
        if not path.startswith(_OF_A_LIST):
            raise ValueError(f"expand on a list starts with 'data.': 'data.{path}' instead of {path!r}")
    return [path.removeprefix(_OF_A_LIST) for path in expand]


def text_query(name: str, value: str | None) -> Query:
    """Encode one optional text; Stripe refuses an empty one, and so does this, without a request."""
    if value is None:
        return []
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or re.search("[\ud800-\udfff]", value):
        raise ValueError(f"{name} must be a text of 1 to {MAX_TEXT} characters, none of them half a surrogate pair")
    return [(name, value)]

"""Rows of events, and in plain Python what the table and the views over it hold of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby, zip_longest
from math import ceil
from typing import Any

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS

Row = dict[str, Any]

DAY = 86400
START = 1_767_225_600  # 2026-01-01 in UTC
FIELDS = [*DEFAULT_FIELDS, "provided_details"]

PREFIX = "identity.verification_session."
VERDICTS = ("requires_input", "verified")


def row(number: int, session: int, what: str, second: int, **fields: Any) -> Row:
    """Return an event as the export writes it, so many seconds after ``START``."""
    statuses = {"created": "requires_input", "redacted": "canceled"}
    return {
        "_event_id": f"evt_{number}",
        "_event_type": f"identity.verification_session.{what}",
        "_event_created": START + second,
        "_stripe_account": None,
        **dict.fromkeys(FIELDS),
        "id": f"vs_{session}",
        "object": "identity.verification_session",
        "created": START,
        "livemode": False,
        "status": statuses.get(what, what),
        "type": "document",
        "last_error": {"code": f"code_{number}", "reason": "x"} if what == "requires_input" else None,
        "metadata": {"name": "Jenny"},
        "provided_details": {"email": "jenny@example.com", "phone": None},
        **fields,
    }


def erased(row: Row) -> Row:
    return row | {"metadata": {}, "provided_details": None, "redaction": {"status": "redacted"}}


def table(objects: Iterable[Iterable[Row]]) -> dict[str, Row]:
    """Return what the table holds once these objects are loaded, by the event's id."""
    loaded = {row["_event_id"]: row for rows in objects for row in rows}
    redacted = {row["id"] for row in loaded.values() if what(row) == "redacted"}
    return {key: erased(row) if row["id"] in redacted else row for key, row in loaded.items()}


def example() -> list[list[Row]]:
    """Objects with all that a merge or a view tells apart, for databases that are too slow for random ones."""
    odd = {"metadata": {"name": "Jenny 漢字 \"'\\ \u2028"}, "client_reference_id": "user 'of\\ 漢字"}
    first = [
        row(1, 1, "created", 0, **odd),
        row(2, 1, "processing", 30),
        row(3, 1, "requires_input", 60),
        row(4, 2, "created", 0),
        row(5, 2, "processing", 5),
    ]
    # A second try, and all of another session in one second, with ids in the opposite order.
    second = [
        row(7, 1, "processing", 90),
        row(6, 1, "verified", 601, last_verification_report="vr_1"),
        *(
            row(14 - step, 3, kind, 700, type="id_number", created=START + 700)
            for step, kind in enumerate(("created", "processing", "requires_input", "processing", "verified"))
        ),
    ]
    # The next day: a redaction that reaches what is there, and a session whose beginning is not in the table.
    third = [
        row(20, 2, "canceled", DAY),
        row(21, 2, "redacted", DAY + 9, metadata={}, provided_details=None, redaction={"status": "redacted"}),
        row(22, 4, "requires_input", DAY + 10),
        row(23, 5, "created", DAY + 11, created=START + DAY + 11),
    ]
    late = [row(24, 2, "requires_input", 8), row(24, 2, "requires_input", 8)]  # of a redacted session, and twice
    return [first, second, first, third, late, second, []]


def what(event: Row) -> str:
    return event["_event_type"].removeprefix(PREFIX)


def in_order(events: Iterable[Row]) -> Iterator[Row]:
    """Yield the events of a session as they happened; the lifecycle decides between those of one second."""
    events = sorted(events, key=lambda event: (event["_event_created"], event["_event_id"]))
    for _, second in groupby(events, key=lambda event: event["_event_created"]):
        of_kind: dict[str, list[Row]] = {}
        for event in second:
            of_kind.setdefault(what(event), []).append(event)
        yield from of_kind.get("created", [])
        verdicts = [event for kind in VERDICTS for event in of_kind.get(kind, [])]
        for pair in zip_longest(of_kind.get("processing", []), verdicts):
            yield from (event for event in pair if event)
        yield from of_kind.get("canceled", [])
        yield from of_kind.get("redacted", [])


def timeline(events: Iterable[Row]) -> dict[str, Row]:
    by_session: dict[str, list[Row]] = {}
    for event in events:
        by_session.setdefault(event["id"], []).append(event)
    return {session_id: _session(list(in_order(found))) for session_id, found in by_session.items()}


def _session(events: list[Row]) -> Row:
    first: dict[str, Row] = {}
    attempts, begun, seconds_to_verdict = 0, None, None
    for event in events:
        kind, second = what(event), event["_event_created"]
        first.setdefault(kind, event)
        if kind == "processing":
            attempts, begun, seconds_to_verdict = attempts + 1, second, None
        elif kind in VERDICTS:
            attempts += begun is None
            seconds_to_verdict = None if begun is None else second - begun
            begun = None

    def at(kind: str) -> datetime | None:
        return moment(first[kind]["_event_created"]) if kind in first else None

    last, failure = events[-1], first.get("requires_input")
    return {
        "id": last["id"],
        "type": last["type"],
        "client_reference_id": last["client_reference_id"],
        "last_status": last["status"],
        "complete": "created" in first,
        "submitted": not first.keys().isdisjoint(("processing", "verified"))
        or any(event["last_verification_report"] for event in events),
        "created_at": moment(last["created"]),
        "first_processing_at": at("processing"),
        "first_failure_at": at("requires_input"),
        "first_failure_code": failure["last_error"]["code"] if failure and failure["last_error"] else None,
        "verified_at": at("verified"),
        "canceled_at": at("canceled"),
        "redacted_at": at("redacted"),
        "attempts": attempts,
        "seconds_to_verified": first["verified"]["_event_created"] - last["created"] if "verified" in first else None,
        "seconds_to_verdict": seconds_to_verdict,
    }


def funnel(events: Iterable[Row]) -> list[Row]:
    by_day: dict[tuple[Any, str], list[Row]] = {}
    for session in timeline(events).values():
        if session["complete"]:
            by_day.setdefault((session["created_at"].date(), session["type"]), []).append(session)
    return [_day(day, kind, sessions) for (day, kind), sessions in sorted(by_day.items())]


def _day(day: Any, kind: str, sessions: list[Row]) -> Row:
    seconds = sorted(session["seconds_to_verified"] for session in sessions if session["verified_at"])
    verified = [session for session in sessions if session["last_status"] == "verified"]
    canceled = sum(session["last_status"] == "canceled" for session in sessions)

    def within(limit: int) -> int:
        return sum(second <= limit for second in seconds)

    return {
        "day": day,
        "type": kind,
        "created": len(sessions),
        "submitted": sum(session["submitted"] for session in sessions),
        "verified": len(verified),
        "canceled": canceled,
        "still_open": len(sessions) - len(verified) - canceled,
        "verified_within_10_minutes": within(600),
        "verified_within_1_hour": within(3600),
        "verified_within_1_day": within(86400),
        # 0.9 is not nine tenths: what is asked for is a whole number of sessions.
        "median_seconds_to_verified": seconds[ceil(len(seconds) / 2) - 1] if seconds else None,
        "p90_seconds_to_verified": seconds[-(-len(seconds) * 9 // 10) - 1] if seconds else None,
        "attempts_per_verified_session": statistics.fmean(s["attempts"] for s in verified) if verified else None,
    }


def moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)

"""Query parameters are checked before any request, and every error names the argument."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_stripe_identity._stripe_api.parameters import (
    created_query,
    epoch_seconds,
    events_query,
    page_query,
    verification_sessions_query,
)

NOON = 1_767_268_800  # 2026-01-01T12:00:00Z


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        str(NOON),
        "2026-01-01T12:00:00Z",
        "2026-01-01T13:00:00+01:00",
        "2026-01-01 12:00:00+00:00",
        datetime(2026, 1, 1, 12, tzinfo=UTC),
        datetime(2026, 1, 1, 7, tzinfo=timezone(timedelta(hours=-5))),
        datetime(2026, 1, 1, 12),
        pendulum.datetime(2026, 1, 1, 21, tz="Asia/Tokyo"),
    ],
    ids=repr,
)
def test_a_time_is_accepted_in_every_form(value):
    assert epoch_seconds("created_gte", value) == NOON


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("2026-01-01T12:00:00", "has no UTC offset"),
        ("2026-01-01", "has no UTC offset"),
        ("20260101", "has no UTC offset"),
        ("yesterday", "ISO-8601"),
        ("12:00", "ISO-8601"),
        ("", "ISO-8601"),
        ("None", "ISO-8601"),
        (NOON * 1000, "milliseconds"),
        (-1, "out of range"),
        (1.5, "float"),
        (True, "bool"),
        (None, "NoneType"),
        (timedelta(days=1), "timedelta"),
    ],
)
def test_any_other_time_is_refused_by_name(value, why):
    with pytest.raises(ValueError, match=f"created_gte.*{why}"):
        epoch_seconds("created_gte", value)


@given(
    moment=st.datetimes(
        min_value=datetime(2010, 1, 1),
        max_value=datetime(2100, 1, 1),
        timezones=st.just(UTC),
    ),
    created=st.integers(-2, 2),
)
def test_rounding_a_fraction_of_a_second_never_moves_a_session_across_a_bound(moment, created):
    """Sessions have whole seconds; each comparison with the rounded bound equals the one with the exact bound."""
    created += int(moment.timestamp())
    instant = datetime.fromtimestamp(created, UTC)
    up = epoch_seconds("t", moment)
    down = epoch_seconds("t", moment, rounding=math.floor)
    assert (created >= up) == (instant >= moment)
    assert (created < up) == (instant < moment)
    assert (created > down) == (instant > moment)
    assert (created <= down) == (instant <= moment)


def test_created_is_encoded_in_both_of_stripes_forms():
    assert created_query(None) == []
    assert created_query(5) == [("created", "5")]
    assert created_query({"gt": 1, "lte": 9}) == [("created[gt]", "1"), ("created[lte]", "9")]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"status": "verifed"}, "status.*verified"),
        ({"status": ""}, "status"),
        ({"created": {"after": 1}}, "created.*after"),
        ({"created": {"gte": 9, "lt": 5}}, r"created\[gte\] is after created\[lt\]"),
        ({"created": {"gt": "2026-01-01", "lt": 5}}, r"created\[gt\]"),
        ({"client_reference_id": ""}, "client_reference_id"),
        ({"client_reference_id": 7}, "client_reference_id"),
        ({"client_reference_id": "x" * 5001}, "client_reference_id.*5000"),
        ({"related_customer": ""}, "related_customer"),
        ({"related_customer_account": ""}, "related_customer_account"),
        ({"expand": "data.verified_outputs"}, "expand must be a list"),
        ({"expand": ["verified_outputs"]}, "'data.verified_outputs' instead of"),
        ({"expand": ["data.a.b.c.d"]}, "expand.*four levels"),
        ({"expand": ["data..b"]}, "expand"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_wrong_filter_is_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        verification_sessions_query(**arguments)


@pytest.mark.parametrize("limit", [0, 101, -1, True, 1.0, "10"])
def test_a_limit_that_stripe_would_silently_change_is_refused(limit):
    with pytest.raises(ValueError, match="limit.*from 1 to 100"):
        page_query(limit=limit)


def test_both_cursors_are_refused():
    with pytest.raises(ValueError, match="starting_after and ending_before"):
        page_query(starting_after="vs_1", ending_before="vs_2")


@pytest.mark.parametrize("types", [[], ["x"] * 21, "identity.verification_session.verified"])
def test_events_need_a_list_of_types_that_stripe_accepts(types):
    with pytest.raises(ValueError, match="types"):
        events_query(types=types)

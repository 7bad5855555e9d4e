"""Lists: every object once, in order, whatever the page size, the direction and the filter."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_stripe_identity.testing.api import EVENTS, SESSIONS, Api

from .conftest import NOON, ask, new_api

Query = list[tuple[str, str]]
ADDED = {"added": "with its final status, so that nothing was processed"}


def forwards(api: Api, path: str, limit: int, query: Query, expected: list[Any]) -> None:
    seen: list[Any] = []
    cursor: Query = []
    while True:
        page = ask(api, path, *query, *cursor, ("limit", str(limit))).body
        seen += page["data"]
        assert page["has_more"] == (len(seen) < len(expected))
        if not page["has_more"]:
            break
        assert len(page["data"]) == limit
        cursor = [("starting_after", page["data"][-1]["id"])]
    assert seen == expected


def backwards(api: Api, path: str, limit: int, query: Query, expected: list[Any]) -> None:
    """From the oldest object to the newest."""
    seen = expected[-1:]
    while seen:
        page = ask(api, path, *query, ("ending_before", seen[0]["id"]), ("limit", str(limit))).body
        seen = page["data"] + seen
        assert page["has_more"] == (len(seen) < len(expected))
        if not page["has_more"]:
            break
        assert len(page["data"]) == limit
    assert seen == expected


def selected(session: dict[str, Any], query: Query) -> bool:
    """The filters, by the book."""
    for name, value in query:
        if name.startswith("created"):
            created, second = session["created"], int(value)
            compared = {
                "created": created == second,
                "created[gt]": created > second,
                "created[gte]": created >= second,
                "created[lt]": created < second,
                "created[lte]": created <= second,
            }
            if not compared[name]:
                return False
        elif session[name] != value:
            return False
    return True


@st.composite
def accounts(draw: st.DrawFn) -> tuple[Api, list[dict[str, Any]]]:
    """Generated, added and changed sessions, crowded into a few seconds; and all of them by the naive way."""
    api = new_api()
    store = api.store(None)
    ordered: list[tuple[tuple[int, int, int], str]] = []
    for rank in range(draw(st.integers(0, 2))):
        number, begin = draw(st.integers(0, 40)), draw(st.integers(0, 20))
        store.populate(number, NOON + begin, NOON + begin + draw(st.integers(1, 40)), seed=draw(st.integers(0, 9)))
        population = store._populations[rank]
        ordered += [((population.created(i), rank, i), population.generated(i)["id"]) for i in range(number)]
    for number, second in enumerate(draw(st.lists(st.integers(0, 60), max_size=15))):
        status = draw(st.sampled_from(["requires_input", "verified", "canceled", "processing"]))
        name = draw(st.sampled_from([None, "user_a", "user_b"]))
        session = store.create(created=NOON + second, status=status, client_reference_id=name)
        ordered.append(((NOON + second, 9, number), session["id"]))
    ordered.sort(reverse=True)
    for _, session_id in draw(st.lists(st.sampled_from(ordered), max_size=5) if ordered else st.just([])):
        store.update(session_id, client_reference_id=draw(st.sampled_from(["user_a", "user_c"])), status="verified")
    return api, [store.session(session_id) for _, session_id in ordered]


@given(accounts(), st.integers(1, 100), st.data())
@settings(max_examples=150, deadline=None)
def test_sessions_page_by_page(account: tuple[Api, list[dict[str, Any]]], limit: int, data: st.DataObject) -> None:
    api, truth = account
    names = sorted({s["client_reference_id"] for s in truth if s["client_reference_id"]} | {"user_nobody"})
    customers = sorted({s["related_customer"] for s in truth if s["related_customer"]} | {"cus_nobody"})
    second = st.integers(NOON - 2, NOON + 62).map(str)
    queries = st.lists(
        st.one_of(
            st.tuples(st.just("status"), st.sampled_from(["verified", "requires_input", "canceled", "processing"])),
            st.tuples(st.just("client_reference_id"), st.sampled_from(names)),
            st.tuples(st.just("related_customer"), st.sampled_from(customers)),
            st.tuples(st.sampled_from(["created[gt]", "created[gte]"]), second),
            st.tuples(st.sampled_from(["created[lt]", "created[lte]"]), second),
        ),
        unique_by=lambda pair: pair[0],
        max_size=3,
    ) | st.tuples(st.just("created"), second).map(lambda pair: [pair])
    query = data.draw(queries)
    expected = [session for session in truth if selected(session, query)]
    forwards(api, SESSIONS, limit, query, expected)
    backwards(api, SESSIONS, limit, query, expected)


@given(st.integers(0, 20), st.integers(1, 4000), st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_events_page_by_page(count: int, seconds: int, limit: int) -> None:
    api = new_api()
    store = api.store(None)
    end = int(time.time())
    store.populate(count, end - seconds, end, seed=0)
    for status in ("verified", "canceled"):
        store.create(status=status, created=end - seconds // 2, metadata=ADDED)
    newest_first = ask(api, EVENTS, ("limit", "100")).body
    events = newest_first["data"]
    assert newest_first["has_more"] is False
    told = defaultdict(list)
    for event in reversed(events):
        told[event["data"]["object"]["id"]].append(event["type"].rpartition(".")[2])
    assert told == {session["id"]: story(session) for session in store.sessions({})}
    times = [event["created"] for event in events]
    assert times == sorted(times, reverse=True)
    forwards(api, EVENTS, limit, [], events)
    backwards(api, EVENTS, limit, [], events)
    wanted = ["identity.verification_session.verified", "identity.verification_session.canceled"]
    query = [("types[]", name) for name in wanted]
    forwards(api, EVENTS, limit, query, [event for event in events if event["type"] in wanted])


def story(session: dict[str, Any]) -> list[str]:
    """What must have happened to a session, from what can be seen in it."""
    happened = ["created"]
    if session["metadata"] != ADDED and (session["status"] == "processing" or session["last_verification_report"]):
        happened.append("processing")
    if session["status"] in ("verified", "canceled") or session["last_error"]:
        happened.append(session["status"])
    if session["redaction"] == {"status": "redacted"}:
        happened.append("redacted")
    return happened


@pytest.mark.parametrize(("limit", "size"), [(None, 10), ("0", 1), ("-5", 1), ("101", 100), ("1000", 100)])
def test_limit_is_clamped(api: Api, limit: str | None, size: int) -> None:
    api.store(None).populate(150, NOON, NOON + 86400, seed=0)
    page = ask(api, SESSIONS, *([("limit", limit)] if limit else [])).body
    assert len(page["data"]) == size
    assert page["has_more"] is True


def test_a_cursor_is_a_place_even_when_the_filter_excludes_it(api: Api) -> None:
    store = api.store(None)
    old, cursor, _ = (store.create(created=NOON + i, client_reference_id=name)["id"] for i, name in enumerate("aba"))
    page = ask(api, SESSIONS, ("client_reference_id", "a"), ("starting_after", cursor)).body
    assert [session["id"] for session in page["data"]] == [old]

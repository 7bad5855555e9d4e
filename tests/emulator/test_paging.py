"""Lists: every object once, in order, whatever the page size, the direction and the filter."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.emulator_api import NOON, ask, new_api

from airflow_provider_stripe_identity.testing.api import EVENTS, SESSIONS, Api

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


@given(accounts(), st.integers(1, 5) | st.integers(6, 100), st.data())
@settings(max_examples=300, deadline=None)
def test_sessions_page_by_page(account: tuple[Api, list[dict[str, Any]]], limit: int, data: st.DataObject) -> None:
    api, truth = account
    query: Query = []
    if truth:  # filters that at least one session is at the edge of
        session = data.draw(st.sampled_from(truth))
        fields = ("status", "client_reference_id", "related_customer", "related_customer_account")
        query = [(name, session[name]) for name in fields if session[name] and data.draw(st.booleans())]
        second = str(session["created"] + data.draw(st.integers(-1, 1)))
        bounds = [[], ["created"], ["created[gt]"], ["created[gte]"], ["created[lt]"], ["created[lte]"]]
        query += [(name, second) for name in data.draw(st.sampled_from([*bounds, ["created[gt]", "created[lte]"]]))]
    expected = [session for session in truth if selected(session, query)]
    forwards(api, SESSIONS, limit, query, expected)
    backwards(api, SESSIONS, limit, query, expected)


@pytest.mark.parametrize("bound", ["created", "created[gt]", "created[gte]", "created[lt]", "created[lte]"])
def test_created_bounds_to_the_second(api: Api, bound: str) -> None:
    store = api.store(None)
    store.populate(20, NOON, NOON + 8, seed=0)
    truth = list(store.sessions({}))
    for second in range(NOON - 1, NOON + 10):
        query = [(bound, str(second))]
        expected = [session for session in truth if selected(session, query)]
        assert ask(api, SESSIONS, *query, ("limit", "100")).body["data"] == expected


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

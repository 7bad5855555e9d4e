"""The generated population."""

from __future__ import annotations

import tracemalloc
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.emulator_api import NOON, ask, new_api

from airflow_provider_stripe_identity.testing import StripeIdentityServer
from airflow_provider_stripe_identity.testing.api import SESSIONS
from airflow_provider_stripe_identity.testing.generated import Population
from airflow_provider_stripe_identity.testing.objects import REASONS


def population(count: int = 3000, seconds: int = 86400, seed: int = 0, rank: int = 0) -> Population:
    return Population(count, NOON, NOON + seconds, seed=seed, rank=rank, account="acct_1", livemode=False)


def everything(sessions: Population) -> list[dict[str, Any]]:
    return [sessions.item(i) for i in range(len(sessions))]


@given(st.integers(1, 300), st.integers(1, 10**6), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_order_period_and_ids(count: int, seconds: int, seed: int) -> None:
    sessions = population(count, seconds, seed)
    created = [sessions.created(i) for i in range(count)]
    assert created == sorted(created)
    assert created[0] >= NOON
    assert created[-1] < NOON + seconds
    ids = [sessions.item(i)["id"] for i in range(count)]
    assert [sessions.find(session_id) for session_id in ids] == list(range(count))


@pytest.mark.parametrize(
    "session_id", ["", "vs_1", "vs_1" + "0" * 24, "vs_1" + "-" * 24, "vs_1" + "é" * 24, "vr_1", "vs_1-1" + "0" * 22]
)
def test_unknown_ids(session_id: str) -> None:
    assert population().find(session_id) is None


def test_ids_belong_to_one_population() -> None:
    one, other = population(), population(rank=1)
    assert other.find(one.item(5)["id"]) is None
    assert one.find(one.item(5)["id"].upper()) is None
    assert one.find(one.item(5)["id"] + "0") is None


def test_same_seed_same_population() -> None:
    once, again, other = (everything(population(50, seed=seed)) for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_realistic() -> None:
    sessions = everything(population())
    statuses = Counter(session["status"] for session in sessions)
    assert statuses.keys() == {"verified", "requires_input", "canceled", "processing"}
    assert statuses["verified"] > len(sessions) / 2
    assert statuses["requires_input"] > statuses["canceled"] > statuses["processing"]
    assert {session["last_error"]["code"] for session in sessions if session["last_error"]} == REASONS.keys()
    assert {session["type"] for session in sessions} == {"document", "id_number", "verification_flow"}
    assert {(session["redaction"] or {}).get("status") for session in sessions} == {None, "processing", "redacted"}
    for name in ("client_reference_id", "related_customer", "related_customer_account", "provided_details"):
        assert {session[name] is None for session in sessions} == {True, False}
    gaps = {later["created"] - earlier["created"] for earlier, later in pairwise(sessions)}
    assert 0 in gaps
    assert len(gaps) > 10


def test_people_try_again_soon_and_mostly_succeed() -> None:
    people = defaultdict(list)
    for session in everything(population()):
        if session["client_reference_id"]:
            people[session["client_reference_id"]].append(session)
    again = [attempts for attempts in people.values() if len(attempts) > 1]
    assert len(again) > 100
    for attempts in again:
        assert "verified" not in {session["status"] for session in attempts[:-1]}
        assert all(later["created"] - earlier["created"] < 1800 for earlier, later in pairwise(attempts))
        assert len({session["type"] for session in attempts}) == 1
    assert sum(attempts[-1]["status"] == "verified" for attempts in again) > len(again) * 0.7


def test_credentials_only_while_they_can_be_used() -> None:
    for session in everything(population()):
        usable = session["status"] in ("requires_input", "processing")
        assert (session["client_secret"] is not None) == usable
        assert (session["url"] is not None) == usable


@pytest.mark.parametrize("field", ["client_reference_id", "related_customer", "related_customer_account"])
def test_filters_agree_with_brute_force(field: str) -> None:
    api = new_api()
    api.store(None).populate(400, NOON, NOON + 7200, seed=3)
    by_name = defaultdict(list)
    for session in api.store(None).sessions({}):
        by_name[session[field]].append(session)
    for name in by_name.keys() - {None}:
        assert ask(api, SESSIONS, (field, name)).body["data"] == by_name[name]


def test_a_million_sessions_take_no_memory() -> None:
    tracemalloc.start()
    try:
        server = StripeIdentityServer()
        server.populate(1_000_000, NOON, NOON + 86400)
        ask(server._api, SESSIONS, ("limit", "100"), ("status", "canceled"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_a_name_is_found_without_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = population(10**6)
    built = []
    generated = sessions.generated
    monkeypatch.setattr(sessions, "generated", lambda i: built.append(i) or generated(i))
    name = next(filter(None, (sessions.item(i)["client_reference_id"] for i in range(777_000, 778_000))))
    built.clear()
    found = sessions.candidates({"client_reference_id": [name]}, 0, len(sessions))
    assert 1 <= len(found) <= 4
    assert {generated(i)["client_reference_id"] for i in found} == {name}
    assert built == []


def test_bad_periods_are_refused() -> None:
    server = StripeIdentityServer()
    with pytest.raises(ValueError, match="start before its end"):
        server.populate(1, NOON, NOON)
    with pytest.raises(ValueError, match="count"):
        server.populate(-1, NOON, NOON + 1)

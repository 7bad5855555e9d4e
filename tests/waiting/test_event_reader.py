"""The one reader of events: each once, late ones too, at one request a poll when it is quiet."""

from __future__ import annotations

import contextlib
import json
import time
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.snapshots import old_snapshots

from airflow_provider_stripe_identity._stripe_api.errors import StripeError
from airflow_provider_stripe_identity._waiting import events
from airflow_provider_stripe_identity._waiting.events import EventReader, Place, earliest
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

VERIFIED = ["identity.verification_session.verified"]


@pytest.fixture
def clock():
    """Stripe's clock, which the test moves."""
    return SimpleNamespace(now=1_790_000_000.0)


@pytest.fixture
def server(clock, monkeypatch):
    with StripeIdentityServer(clock=lambda: clock.now) as server:
        connection = json.loads(server.airflow_connection()) | {"extra": {"max_retries": 0}}
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
        yield server


@pytest.fixture
def hook(server, clock, monkeypatch):
    """A hook whose client believes the moved clock at once."""
    hook = StripeIdentityHook()
    monkeypatch.setattr(hook.client.clock, "at", lambda moment: int(clock.now))
    return hook


def verify(server, number=1, *, at=None):
    """Let sessions become verified; at a time in the past they are listed late."""
    for _ in range(number):
        session = server.create_session(client_reference_id="user", created=1_000)
        if at is None:
            server.verify(session["id"])
        else:
            server.verify(session["id"], event_created=int(at))


def poll(reader, hook) -> list[events.Event]:
    """Read until there is nothing more; after an error go on."""
    found = []
    while True:
        try:
            page = reader.read_page(hook)
        except StripeError:
            continue
        found += page.events
        if page.last:
            return found


def requests_of(server, action) -> int:
    before = len(server.requests)
    action()
    return len(server.requests) - before


def test_at_rest_it_is_one_request_whatever_came_before(server, hook, clock):
    reader = EventReader(VERIFIED)
    poll(reader, hook)
    verify(server, 2_000)
    assert len(poll(reader, hook)) == 2_000
    for _ in range(5):
        assert requests_of(server, lambda: poll(reader, hook)) == 1, "nothing new, and the ten minutes are many pages"
    clock.now += events.LISTED_LATE + 1
    reader._walk_down_at = 0.0  # it is time to see what was listed late
    assert requests_of(server, lambda: poll(reader, hook)) <= 21
    for _ in range(5):
        reader._walk_down_at = 0.0
        assert requests_of(server, lambda: poll(reader, hook)) == 1
    assert len(json.dumps(reader.place().as_json())) < 100


def test_what_is_kept_is_small_after_many_events(server, hook):
    reader = EventReader(VERIFIED)
    verify(server, 2_000)
    poll(reader, hook)
    kept = json.dumps(reader.place().as_json())
    assert len(kept) < 4096
    again = EventReader(VERIFIED, Place.from_json(json.loads(kept)))
    assert len(poll(again, hook)) == 2_000 - events.KEPT_IDS == reader.place().forgotten


@pytest.mark.parametrize("late", [1, 140, events.LISTED_LATE - 1])
def test_an_event_listed_late_is_read_by_the_next_poll(server, hook, clock, late):
    reader = EventReader(VERIFIED)
    poll(reader, hook)
    clock.now += 5_000
    verify(server, 3)
    assert len(poll(reader, hook)) == 3
    verify(server, at=clock.now - late)
    assert requests_of(server, lambda: verify_found(poll(reader, hook), 1)) == 1
    assert poll(reader, hook) == []


def verify_found(found, number):
    assert len(found) == number


def test_late_events_among_many_are_read_when_all_are_walked_through(server, hook, clock):
    reader = EventReader(VERIFIED)
    verify(server, 500)
    poll(reader, hook)
    verify(server, at=clock.now - 300)
    reader._walk_down_at = 0.0
    verify_found(poll(reader, hook), 1)


@pytest.mark.parametrize("every", [50, 5])
def test_a_backlog_is_read_page_by_page_although_answers_fail(server, hook, every):
    """With 2 % and 20 % of the answers failing: an answer that fails costs one request, and no page is read twice."""
    reader = EventReader(VERIFIED)
    poll(reader, hook)
    verify(server, 30_000)
    server.fault_every(every, Fault.status(500), Fault.reset(), Fault.cut_short(), seed=1)
    before, failures = len(server.requests), 0
    pages: list[events.Page] = []
    while not pages or not pages[-1].last:
        try:
            pages.append(reader.read_page(hook))
        except StripeError:
            failures += 1
    assert [len(page.events) for page in pages] == [100] * 300
    assert len({event.id for page in pages for event in page.events}) == 30_000
    assert len(server.requests) - before == 300 + failures
    assert failures >= 300 // every // 2, "as many fail as the test says"


def test_a_walk_whose_cursor_is_gone_begins_again_and_misses_nothing(server, hook):
    reader = EventReader(VERIFIED)
    poll(reader, hook)
    verify(server, 350)
    found = reader.read_page(hook).events
    server.inject(Fault.status(400, error={"code": "resource_missing", "param": "starting_after"}))
    found += poll(reader, hook)
    assert len({event.id for event in found}) == len(found) == 350


def test_only_stripes_clock_counts(server, hook, clock, monkeypatch):
    """This machine's is 700 s ahead, and there has been no event."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 700)
    reader = EventReader(VERIFIED)
    poll(reader, hook)
    asked = dict(server.requests[-1].query)
    assert int(asked["created[gte]"]) == clock.now - events.LISTED_LATE


def test_a_gateway_whose_clock_is_a_day_ahead_hides_no_event(server, clock):
    clock.now = time.time()
    hook = StripeIdentityHook()
    reader = EventReader(VERIFIED)
    for _ in range(3):
        hook.client.clock.heard(formatdate(clock.now + 86_400, usegmt=True))
        poll(reader, hook)
        verify(server, at=clock.now - 300)
        assert len(poll(reader, hook)) == 1


def test_without_any_date_events_themselves_are_the_clock(server, hook, monkeypatch):
    monkeypatch.setattr(type(hook.client.clock), "known", False)
    reader = EventReader(VERIFIED)
    assert poll(reader, hook) == []
    verify(server)
    verify_found(poll(reader, hook), 1)


def test_a_snapshot_that_does_not_say_whose_it_is_is_looked_up(server, hook):
    server.after_answer = old_snapshots
    reader = EventReader(VERIFIED)
    verify(server)
    (event,) = poll(reader, hook)
    assert event.session["client_reference_id"] == "user"


def test_what_was_looked_up_is_kept_although_responses_fail(server, hook):
    """Where an account's snapshots are all old, a page is a hundred look-ups, of which every fifth fails."""
    server.after_answer = old_snapshots
    reader = EventReader(VERIFIED)
    poll(reader, hook)
    verify(server, 200)
    server.fault_every(5, Fault.status(500), Fault.reset(), seed=1)
    assert requests_of(server, lambda: verify_found(poll(reader, hook), 200)) < 2 * (200 + 3) / (1 - 1 / 5)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("verify"), st.integers(1, 130)),
        st.tuples(st.just("late"), st.integers(1, events.LISTED_LATE)),
        st.tuples(st.just("time"), st.integers(1, 900)),
        st.tuples(st.just("fault"), st.integers(0, 2)),
        st.tuples(st.just("request"), st.just(1)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=20,
)


@given(steps)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_event_is_read_exactly_once_in_any_order_of_things(monkeypatch, schedule):
    clock = SimpleNamespace(now=1_790_000_000.0)
    with StripeIdentityServer(clock=lambda: clock.now) as server:
        connection = json.loads(server.airflow_connection()) | {"extra": {"max_retries": 0}}
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
        hook = StripeIdentityHook()
        monkeypatch.setattr(hook.client.clock, "at", lambda moment: int(clock.now))
        monkeypatch.setattr(events, "WALK_DOWN_EVERY", 0.0)
        reader = EventReader(VERIFIED)
        poll(reader, hook)
        found, expected = [], 0
        for step, number in schedule:
            if step == "verify":
                verify(server, number)
                expected += number
            elif step == "late":
                verify(server, at=clock.now - number)
                expected += 1
            elif step == "time":
                found += poll(reader, hook)  # a poll is due before ten minutes are over
                clock.now += number
            elif step == "fault":
                server.inject([Fault.status(500), Fault.reset(), Fault.status(400)][number])
            elif step == "request":
                with contextlib.suppress(StripeError):
                    found += reader.read_page(hook).events
            elif step == "restart":
                found += poll(reader, hook)
                place = reader.place()
                if not place.forgotten:
                    reader = EventReader(VERIFIED, Place.from_json(json.loads(json.dumps(place.as_json()))))
        reader._walk_down_at = 0.0
        found += poll(reader, hook)
        found += poll(reader, hook)
        assert len({event.id for event in found}) == len(found) == expected


def test_what_was_returned_and_not_handled_yet_is_before_no_place(server, hook):
    reader = EventReader(VERIFIED)
    poll(reader, hook)
    verify(server, 30)
    pending = poll(reader, hook)
    again = EventReader(VERIFIED, reader.place(pending[:10]))
    assert {event.id for event in poll(again, hook)} == {event.id for event in pending[:10]}


@pytest.mark.parametrize("value", [None, 5, {}, {"since": "x"}, {"since": 1, "passed": "§", "forgotten": 0}])
def test_what_is_no_place_is_refused(value):
    with pytest.raises(ValueError, match="place"):
        Place.from_json(value)


def test_the_earliest_of_several_places_misses_nothing():
    one, two = Place(10, frozenset({b"a", b"b"})), Place(20, frozenset({b"b"}))
    assert earliest([one, two]) == Place(10, frozenset({b"b"}))
    assert earliest([]) is None

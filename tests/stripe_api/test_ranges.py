"""Ranges side by side: the same sessions in the same order as page after page, whatever happens meanwhile."""

from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.accounts import accounts

from airflow_provider_stripe_identity._stripe_api import ranges
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity._stripe_api.listing import list_objects
from airflow_provider_stripe_identity.exceptions import StripeAPIError, StripePermissionError
from airflow_provider_stripe_identity.hooks import VERIFICATION_SESSIONS
from airflow_provider_stripe_identity.testing import Fault

START, END = 1_000_000, 1_000_000 + 86_400
FAULTS = [
    Fault.reset(),
    Fault.cut_short(),
    Fault.not_json(),
    Fault.empty_page(),
    Fault.stuck_cursor(),
    Fault.status(500),
    Fault.rate_limited(),
    Fault.rate_limited("endpoint-concurrency"),
]


def client(server, workers=4, **more):
    options = {"max_requests_per_second": 10_000.0, "max_concurrency": workers, "max_retries": 30, **more}
    return StripeIdentityClient(server.api_key, base_url=server.url, **options)


def listing(made, *, start=START, end=END, **more):
    return list_objects(made, VERIFICATION_SESSIONS, [], created_gte=start, created_lt=end, **more)


def ids(sessions):
    return [session["id"] for session in sessions]


def workers_alive():
    return [thread for thread in threading.enumerate() if thread.name.startswith("stripe-identity")]


seconds = st.one_of(
    st.lists(st.integers(START, END - 1), max_size=60),  # all over the day
    st.lists(st.sampled_from([START, END - 1]), max_size=60),  # in the first and the last second
    st.lists(st.integers(END - 5, END - 1), max_size=80),  # ties at the end
    st.tuples(  # a crowd in a small part, and a few anywhere
        st.lists(st.integers(START + 40_000, START + 40_060), max_size=80),
        st.lists(st.integers(START, END - 1), max_size=9),
    ).map(lambda parts: parts[0] + parts[1]),
)


@pytest.mark.usefixtures("instant_backoff")
@given(
    seconds=seconds,
    page_size=st.integers(1, 9),
    workers=st.integers(1, 6),
    pages_a_range=st.integers(1, 3),
    risk=st.sampled_from([0.0, 0.02, 3.0]),
    expected=st.sampled_from([0, 1, 60, 5_000]),
    faults=st.none() | st.integers(2, 9),
    seed=st.integers(0, 5),
)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_sessions_in_the_same_order(
    shared_server, seconds, page_size, workers, pages_a_range, risk, expected, faults, seed
):
    """Whatever their distribution, with faults, and with sessions being created above the window meanwhile."""
    server, account = shared_server, next(accounts)
    server.create_session(account=account, created=START - 1)
    for second in seconds:
        server.create_session(account=account, created=second)
    truth = ids(server.sessions(account=account, created={"gte": START, "lt": END}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "PAGES_A_RANGE", pages_a_range)
        patch.setattr(ranges, "RISK", risk)
        if faults:
            server.fault_every(faults, *FAULTS, seed=seed)
        seen = []
        for session in listing(client(server, workers, stripe_account=account), page_size=page_size, expected=expected):
            seen.append(session["id"])
            server.create_session(account=account, created=END)
        server.clear_faults()
    assert seen == truth
    assert not workers_alive()


def test_a_range_has_its_own_cursor_and_none_of_anothers(server, monkeypatch):
    monkeypatch.setattr(ranges, "PAGES_A_RANGE", 1)
    server.populate(2_000, START, END)
    found = {}
    for session in listing(client(server), page_size=20):
        found[session["id"]] = session["created"]
    cursors: dict[tuple[str, str], list[str | None]] = {}
    for request in server.requests:
        query = dict(request.query)
        bounds = (query["created[gte]"], query["created[lt]"])
        cursors.setdefault(bounds, []).append(query.get("starting_after"))
    assert len(cursors) > 3
    for (start, end), used in cursors.items():
        assert used[0] is None
        # A cursor comes from a page that was asked for with the same bounds.
        assert all(int(start) <= found.get(cursor or "", int(start)) < int(end) for cursor in used[1:])


def test_bursts_after_gaps_cost_little_more_than_plain_paging(server):
    """A full page here says nothing about the time before it: what is risked on that has to stay small."""
    for burst in range(40):
        for _ in range(210):
            server.create_session(created=START + burst * 2_000)
    assert len(list(listing(client(server, 8)))) == 40 * 210
    plain = 40 * 210 / 100
    assert len(server.requests) <= plain + 40 + 8 + 0.1 * plain


@pytest.mark.parametrize(("sessions", "most"), [(0, 1), (40, 1), (100, 1), (101, 2), (900, 9)])
def test_few_sessions_cost_what_plain_paging_costs(server, sessions, most):
    server.populate(sessions, START, END)
    assert len(list(listing(client(server)))) == sessions
    assert len(server.requests) <= most + 2


@pytest.mark.parametrize("burst", [False, True])
@pytest.mark.parametrize("wrong_by", [0.85, 1, 1.15])
def test_a_known_number_of_few_sessions_costs_no_more(server, burst, wrong_by):
    """Not even where a dense first page promises far more."""
    server.populate(900, END - 3_600 if burst else START, END)
    assert len(list(listing(client(server, 8), expected=round(900 * wrong_by)))) == 900
    assert len(server.requests) <= 9 + 2


@pytest.mark.parametrize("sessions", [0, 90, 900, 5_000])
@pytest.mark.parametrize("wrong_by", [0, 0.1, 10, 1_000_000])
def test_a_wrong_expectation_costs_few_requests(server, sessions, wrong_by):
    """Far too many: one nearly empty request for each at once. Far too few: time alone."""
    server.populate(sessions, START, END)
    assert len(list(listing(client(server, 8), expected=round((sessions or 1_000) * wrong_by)))) == sessions
    assert len(server.requests) <= max(sessions / 100, 1) * 1.12 + 7


@pytest.mark.parametrize("shape", ["even", "hot"])
def test_many_sessions_cost_little_more_than_plain_paging(server, shape):
    server.populate(6_000, START, END)
    if shape == "hot":
        server.populate(14_000, START + 70_000, START + 70_864)
    total = 6_000 if shape == "even" else 20_000
    assert len(list(listing(client(server, 8)))) == total
    assert len(server.requests) <= total / 100 * 1.12 + 4


def test_a_single_second_is_one_range(server):
    for _ in range(1_500):
        server.create_session(created=START + 500)
    assert len(list(listing(client(server, 8)))) == 1_500
    assert len({tuple(r.query[i] for i in range(2)) for r in server.requests}) <= 2


def test_as_many_are_read_at_once_as_there_are_workers(server):
    """Four requests wait at the server for one another: with fewer at once they would wait in vain."""
    server.populate(8_000, START, END)
    barrier, in_vain = threading.Barrier(4, timeout=20), []
    count = itertools.count()

    def wait_for_the_others(request):
        if 20 <= next(count) < 24:
            try:
                barrier.wait()
            except threading.BrokenBarrierError:
                in_vain.append(1)

    server.before_answer = wait_for_the_others
    assert len(list(listing(client(server, 4)))) == 8_000
    assert not in_vain


def test_a_reader_that_stops_reading_stops_the_workers(server, monkeypatch):
    monkeypatch.setattr(ranges, "PAGES_A_RANGE", 3)
    monkeypatch.setattr(ranges, "PAGES_AHEAD", 3)
    server.populate(10_000, START, END)
    sessions = listing(client(server, 4), page_size=20)
    next(sessions)
    state = sessions.gi_frame.f_locals["self"]

    def pages_ahead():
        with state._changed:
            return sum(len(found.pages) for found in state._ranges._ranges)

    previous = -1
    while previous != (previous := len(server.requests)):
        threading.Event().wait(0.3)
    # Of five hundred pages: twelve before each range that is read, so twice that where the older ones came first, one
    # under way for each worker, and the newest range of up to twice its three pages, which may always go on.
    assert 0 < pages_ahead() <= 2 * 12 + 4 + 6
    sessions.close()
    assert not workers_alive()


def test_an_error_in_one_range_stops_the_others_and_is_raised(server, monkeypatch):
    monkeypatch.setattr(ranges, "PAGES_A_RANGE", 2)
    server.populate(20_000, START, END)
    made = client(server, 4)
    sessions = listing(made)
    next(sessions)
    server.fault_every(1, Fault.status(403))
    with pytest.raises(StripePermissionError):
        list(sessions)
    assert not workers_alive()
    assert len(server.requests) < 100


def test_a_worker_that_pauses_before_a_retry_is_stopped_too(server, monkeypatch):
    """Its pause would be a minute."""
    monkeypatch.setattr(ranges, "PAGES_A_RANGE", 2)
    server.populate(20_000, START, END)
    sessions = listing(client(server, 4))
    next(sessions)
    server.fault_every(1, Fault.status(503, headers={"Retry-After": "60"}))
    goal = len(server.requests) + 1
    while len(server.requests) < goal:
        threading.Event().wait(0.01)
    sessions.close()
    assert not workers_alive()


@pytest.mark.usefixtures("instant_backoff")
def test_a_server_that_ignores_the_window_is_noticed(server):
    """Otherwise the same sessions would be read once for each range."""
    session = server.create_session(created=END)
    outside = {"object": "list", "data": [session], "has_more": False}
    server.inject(*[Fault.status(200, body=outside)] * 9)
    with pytest.raises(StripeAPIError, match="from outside the window"):
        list(listing(client(server, max_retries=2)))


def test_a_page_out_of_order_is_noticed(server):
    """Ranges are cut where a page ends, so what comes later than it should would be lost."""
    older, newer = (server.create_session(created=second) for second in (START, START + 1))
    server.inject(Fault.status(200, body={"object": "list", "data": [older, newer], "has_more": False}))
    with pytest.raises(StripeAPIError, match="not in order, newest first"):
        list(listing(client(server, max_retries=0)))

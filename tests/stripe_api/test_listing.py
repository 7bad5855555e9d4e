"""Whole lists: every object once, newest first, in both directions, at the cost of as few requests as possible."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.accounts import accounts

from airflow_provider_stripe_identity.exceptions import StripeAPIError
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.testing import Fault


def ids(sessions):
    return [session["id"] for session in sessions]


@given(
    # Few distinct seconds for many sessions, so that ties cross the pages.
    seconds=st.lists(st.integers(1_000_000, 1_000_005), max_size=25),
    page_size=st.integers(1, 12),
    at=st.integers(0, 24),
    max_items=st.none() | st.integers(1, 30),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_session_once_forwards_and_backwards(shared_server, seconds, page_size, at, max_items):
    account = next(accounts)
    shared_server.create_session(account=account, created=1)
    for second in seconds:
        shared_server.create_session(account=account, created=second)
    truth = ids(shared_server.sessions(account=account))
    hook = StripeIdentityHook(stripe_account=account)
    options = {"page_size": page_size, "max_items": max_items}
    assert ids(hook.list_verification_sessions(**options)) == truth[:max_items]
    at = min(at, len(truth) - 1)
    assert ids(hook.list_verification_sessions(starting_after=truth[at], **options)) == truth[at + 1 :][:max_items]
    assert ids(hook.list_verification_sessions(ending_before=truth[at], **options)) == truth[:at][:max_items]


@pytest.mark.parametrize(
    ("sessions", "arguments", "requests"),
    [
        (0, {}, 1),
        (99, {}, 1),
        (100, {}, 1),
        (101, {}, 2),
        (300, {}, 3),
        (300, {"max_items": 100}, 1),
        (300, {"max_items": 101}, 2),
        (300, {"page_size": 60}, 5),
    ],
)
def test_as_few_requests_as_pages(server, hook, sessions, arguments, requests):
    for _ in range(sessions):
        server.create_session()
    assert len(list(hook.list_verification_sessions(**arguments))) == min(sessions, arguments.get("max_items", 999))
    assert len(server.requests) == requests


def test_pages_are_asked_for_only_when_they_are_needed(server, hook):
    for _ in range(30):
        server.create_session()
    sessions = hook.list_verification_sessions(page_size=10)
    assert len(server.requests) == 0
    for _ in range(10):
        next(sessions)
    assert len(server.requests) == 1


def test_a_session_that_leaves_the_list_does_not_make_backward_paging_run_on(server, hook):
    """The object at which it would stop is verified meanwhile, so the filtered list no longer holds it."""
    old, cursor, stop, *newer = (server.create_session(created=second) for second in range(10, 16))
    sessions = hook.list_verification_sessions(ending_before=cursor["id"], status="requires_input", page_size=1)
    seen = [next(sessions)["id"]]
    server.verify(stop["id"])
    seen += ids(sessions)
    assert seen == ids(reversed(newer))
    assert old["id"] not in seen


def test_sessions_created_while_it_runs_do_not_disturb_it(server, hook):
    before = [server.create_session(created=second)["id"] for second in range(10, 40)]
    sessions = hook.list_verification_sessions(page_size=7)
    seen = []
    for number, session in enumerate(sessions):
        seen.append(session["id"])
        server.create_session(created=100 + number)
    assert seen == before[::-1]


@pytest.mark.usefixtures("instant_backoff")
@pytest.mark.parametrize("seconds", [range(10), [5] * 10], ids=["one a second", "all in one second"])
@pytest.mark.parametrize("stuck_after", [1, 2, 4])
def test_a_cursor_that_does_not_move_is_noticed_on_any_page(server, hook, seconds, stuck_after):
    """Whether the first page comes again as the second or the fifth, it is asked for again, and then given up."""
    for second in seconds:
        server.create_session(created=second)
    truth = ids(server.sessions())

    def listing():
        sessions = hook.list_verification_sessions(page_size=2)
        return ids(itertools.islice(sessions, 2 * stuck_after)), sessions

    seen, sessions = listing()
    server.inject(Fault.stuck_cursor())
    assert seen + ids(sessions) == truth

    seen, sessions = listing()
    server.fault_every(1, Fault.stuck_cursor())
    with pytest.raises(StripeAPIError, match="a page on which the cursor does not move"):
        next(sessions)


@pytest.mark.usefixtures("instant_backoff")
def test_faults_in_the_middle_change_nothing(server, hook):
    server.populate(1_000, 1_000_000, 1_100_000)
    server.fault_every(
        3,
        Fault.reset(),
        Fault.cut_short(),
        Fault.not_json(),
        Fault.not_a_list(),
        Fault.empty_page(),
        Fault.stuck_cursor(),
        Fault.status(500),
        Fault.rate_limited(),
    )
    assert ids(hook.list_verification_sessions(page_size=20)) == ids(server.sessions())


def test_the_page_method_takes_every_parameter_of_the_endpoint(server, hook):
    wanted = server.create_session(
        client_reference_id="user_1", created=1_000, related_customer="cus_1", status="verified"
    )
    other = server.create_session(client_reference_id="user_2", created=1_001)
    both = {"created": {"gt": 999, "lte": 1_001}, "limit": 100}
    assert ids(hook.list_verification_sessions_page(**both)["data"]) == [other["id"], wanted["id"]]
    for filters in (
        {"client_reference_id": "user_1"},
        {"created": 1_000},
        {"created": {"gte": 1_000, "lt": 1_001}},
        {"related_customer": "cus_1"},
        {"status": "verified"},
        {"starting_after": other["id"]},
    ):
        assert ids(hook.list_verification_sessions_page(**filters)["data"]) == [wanted["id"]]
    assert ids(hook.list_verification_sessions_page(ending_before=wanted["id"])["data"]) == [other["id"]]
    assert hook.list_verification_sessions_page(related_customer_account="acct_customer")["data"] == []
    page = hook.list_verification_sessions_page(limit=1, expand=["data.verified_outputs"], created=1_000)
    assert "verified_outputs" in page["data"][0]
    assert page["has_more"] is False


def test_wrong_arguments_are_refused_at_once_and_without_a_request(server, hook):
    for arguments in (
        {"page_size": 0},
        {"page_size": 101},
        {"max_items": 0},
        {"status": "verifed"},
        {"starting_after": "vs_1", "ending_before": "vs_2"},
        {"created_gte": 2, "created_lt": 1},
        {"created_gte": "2026-01-01T00:00:00"},
        {"client_reference_id": ""},
        {"expand": "data.verified_outputs"},
    ):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            hook.list_verification_sessions(**arguments)
    assert len(server.requests) == 0

"""How fast, and how many at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from airflow_provider_stripe_identity.hooks import VERIFICATION_SESSIONS
from airflow_provider_stripe_identity.stripe_api import StripeRateLimitError, politeness
from airflow_provider_stripe_identity.stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity.stripe_api.listing import list_objects
from airflow_provider_stripe_identity.stripe_api.politeness import Politeness

START, END = 1_000_000, 1_000_000 + 86_400


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves."""
    clock = SimpleNamespace(now=1_000.0)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(politeness, "time", clock)
    return clock


def begun(made: Politeness, clock, count: int) -> list[float]:
    moments = []
    for _ in range(count):
        with made.turn():
            moments.append(clock.now)
    return moments


def refuse(made: Politeness, reason: str | None) -> None:
    with pytest.raises(StripeRateLimitError), made.turn():
        raise StripeRateLimitError("GET", "429", rate_limited_reason=reason)


def test_turns_are_evenly_spaced(clock):
    moments = begun(Politeness(20), clock, 100)
    for early, late in zip(moments, moments[20:], strict=False):
        assert late - early >= 0.999, "no second holds more than twenty, not even the first"


def test_idle_time_is_not_saved_up(clock):
    made = Politeness(10)
    begun(made, clock, 1)
    clock.now += 1_000
    moments = begun(made, clock, 20)
    assert moments[-1] - moments[0] == pytest.approx(1.9)


@pytest.mark.parametrize(
    ("reason", "rate", "at_once"),
    [
        ("endpoint-rate", 10, 8),
        ("global-rate", 10, 8),
        ("endpoint-concurrency", 20, 4),
        ("global-concurrency", 20, 4),
        ("resource-specific", 10, 4),
        (None, 10, 4),
    ],
)
def test_a_429_lowers_what_it_complains_about_at_once(clock, reason, rate, at_once):
    made = Politeness(20, 8)
    refuse(made, reason)
    assert (made._rate, made._at_once) == (rate, at_once)


def test_answers_raise_it_slowly_up_to_the_bound(clock):
    made = Politeness(20, 8)
    for _ in range(20):
        refuse(made, None)
    assert made._rate > 0
    assert made._at_once == 1
    begun(made, clock, 10)
    assert made._rate < 10
    begun(made, clock, 100)
    assert (made._rate, made._at_once) == (20, 8)


def test_other_errors_change_nothing_and_give_the_turn_back(clock):
    made = Politeness(20, 1)
    for _ in range(3):
        with pytest.raises(RuntimeError), made.turn():
            raise RuntimeError
    assert (made._rate, made._at_once, made._running) == (20, 1, 0)


def test_no_more_than_the_bound_at_once():
    made = Politeness(10_000, 3)
    running, most = 0, 0
    lock, full = threading.Lock(), threading.Barrier(3, timeout=20)

    def request(_):
        nonlocal running, most
        with made.turn():
            with lock:
                running += 1
                most = max(most, running)
            full.wait()
            with lock:
                running -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(request, range(12)))
    assert most == 3


@pytest.mark.parametrize("arguments", [(0, 4), (-1, 4), (20, 0)])
def test_wrong_bounds_are_refused_by_name(arguments):
    with pytest.raises(ValueError, match="max_requests_per_second|max_concurrency"):
        Politeness(*arguments)


def test_no_429_from_a_server_that_enforces_stripes_limit(server):
    """With the defaults."""
    server.rate_limit = 25
    server.populate(4_000, START, END)
    client = StripeIdentityClient(server.api_key, base_url=server.url)
    assert len(list(list_objects(client, VERIFICATION_SESSIONS, [], created_gte=START, created_lt=END))) == 4_000
    assert {request.status for request in server.requests} == {200}


def test_a_server_with_a_lower_limit_is_adapted_to(server, monkeypatch):
    """The listing is finished all the same, by fewer requests at once."""
    server.concurrency_limit = 2
    server.latency = 0.01
    server.populate(6_000, START, END)
    client = StripeIdentityClient(
        server.api_key, base_url=server.url, max_requests_per_second=10_000, max_concurrency=8, max_retries=20
    )
    monkeypatch.setattr("airflow_provider_stripe_identity.stripe_api.client.FIRST_BACKOFF", 0.001)
    assert len(list(list_objects(client, VERIFICATION_SESSIONS, [], created_gte=START, created_lt=END))) == 6_000
    assert 429 in {request.status for request in server.requests}

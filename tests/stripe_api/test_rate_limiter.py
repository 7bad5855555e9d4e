"""How fast, and how many at once."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_stripe_identity._stripe_api import rate_limiter
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity._stripe_api.listing import list_objects
from airflow_provider_stripe_identity._stripe_api.rate_limiter import RateLimiter
from airflow_provider_stripe_identity.exceptions import StripeRateLimitError
from airflow_provider_stripe_identity.hooks import VERIFICATION_SESSIONS

START, END = 1_000_000, 1_000_000 + 86_400


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves."""
    clock = SimpleNamespace(now=1_000.0)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(rate_limiter, "time", clock)
    return clock


def begun(made: RateLimiter, clock, count: int) -> list[float]:
    moments = []
    for _ in range(count):
        with made.turn():
            moments.append(clock.now)
    return moments


def refuse(made: RateLimiter, reason: str | None) -> None:
    with pytest.raises(StripeRateLimitError), made.turn():
        raise StripeRateLimitError("GET", "429", rate_limited_reason=reason)


def test_no_second_holds_more_than_the_rate(clock):
    moments = begun(RateLimiter(20), clock, 100)
    for early, late in zip(moments, moments[20:], strict=False):
        assert late - early >= 0.999, "not even the first"
    assert moments[-1] - moments[0] == pytest.approx(4)


def test_turns_that_nobody_used_are_made_up_for_within_the_second(clock):
    made = RateLimiter(10)
    begun(made, clock, 1)
    clock.now += 0.7
    assert clock.now + begun(made, clock, 9)[-1] == pytest.approx(2 * clock.now), "at once"
    assert made.seconds_until_turn() == pytest.approx(0.3)


def test_idle_time_is_not_saved_up(clock):
    made = RateLimiter(10)
    begun(made, clock, 1)
    clock.now += 1_000
    moments = begun(made, clock, 20)
    assert moments[10] - moments[0] == pytest.approx(1)


@pytest.mark.parametrize("rate", [0.2, 0.9, 1, 2.5])
def test_low_and_odd_rates(clock, rate):
    moments = begun(RateLimiter(rate), clock, 41)
    assert moments[-1] - moments[0] == pytest.approx(40 / rate)


@given(rate=st.integers(1, 12), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=50)
def test_no_second_at_the_server_holds_more_than_the_rate(rate, seed):
    """However long a request is on its way, up to a bound, and however long the server works on it."""
    random_ = random.Random(seed)
    clock = SimpleNamespace(now=1_000.0)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    clock.monotonic = lambda: clock.now
    arrived = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limiter, "time", clock)
        made = RateLimiter(rate, 1)
        begun(made, clock, 1)  # the fastest there can be
        clock.now += 1
        for _ in range(80):
            clock.now += random_.choice([0, random_.uniform(0, 0.2)])
            with made.turn():
                clock.now += random_.choice([0, random_.uniform(0, rate_limiter.MAX_DELAY)])
                arrived.append(clock.now)
                clock.now += random_.choice([0, random_.uniform(0, 0.4)])
    for early, late in zip(arrived, arrived[rate:], strict=False):
        assert late - early >= 0.999_999


@pytest.mark.parametrize(
    ("reason", "rate", "at_once"),
    [
        ("endpoint-rate", 14, 8),
        ("global-rate", 14, 8),
        ("endpoint-concurrency", 20, 5.6),
        ("global-concurrency", 20, 5.6),
        ("resource-specific", 14, 5.6),
        (None, 14, 5.6),
    ],
)
def test_a_429_lowers_what_it_complains_about_at_once(clock, reason, rate, at_once):
    made = RateLimiter(20, 8)
    refuse(made, reason)
    assert (made._rate, made._at_once) == pytest.approx((rate, at_once))


def test_answers_raise_it_slowly_up_to_the_bound(clock):
    made = RateLimiter(20, 8)
    for _ in range(20):
        refuse(made, None)
    assert made._rate > 0
    assert made._at_once == 1
    begun(made, clock, 100)
    assert made._rate < 10
    begun(made, clock, 400)
    assert (made._rate, made._at_once) == (20, 8)


def test_turns_are_evenly_spaced_after_a_429(clock):
    made = RateLimiter(20)
    refuse(made, "endpoint-rate")
    moments = begun(made, clock, 10)
    assert all(late - early >= 0.05 for early, late in pairwise(moments))


def test_requests_that_were_under_way_at_a_429_do_not_lower_the_rate_again(clock):
    made = RateLimiter(20, 8)
    with suppress(StripeRateLimitError), made.turn():
        refuse(made, "endpoint-rate")
        clock.now += 0.1
        raise StripeRateLimitError("GET", "429", rate_limited_reason="endpoint-rate")
    assert made._rate == 14


def test_other_errors_change_nothing_and_give_the_turn_back(clock):
    made = RateLimiter(20, 1)
    for _ in range(3):
        with pytest.raises(RuntimeError), made.turn():
            raise RuntimeError
    assert (made._rate, made._at_once, made._running) == (20, 1, 0)


def test_no_more_than_the_bound_at_once():
    made = RateLimiter(10_000, 3)
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
        RateLimiter(*arguments)


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
    monkeypatch.setattr("airflow_provider_stripe_identity._stripe_api.client.FIRST_BACKOFF", 0.001)
    assert len(list(list_objects(client, VERIFICATION_SESSIONS, [], created_gte=START, created_lt=END))) == 6_000
    assert 429 in {request.status for request in server.requests}

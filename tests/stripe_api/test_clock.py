"""The time at Stripe is never told later than it is, whatever this machine's own clock says."""

from __future__ import annotations

import math
import time
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_stripe_identity._stripe_api import clock as clock_module
from airflow_provider_stripe_identity._stripe_api.clock import StripeClock
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.testing import StripeIdentityServer

answers = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 60), st.floats(0, 60)), min_size=1, max_size=6)


@given(
    ahead=st.floats(1e9, 2e9),
    wrong=st.floats(-1e6, 1e6),
    answers=answers,
    moment=st.floats(0, 200),
)
def test_it_is_never_told_later_than_it_is(ahead, wrong, answers, moment):
    """Stripe is ``ahead`` of our monotonic clock; answers are sent, dated by Stripe, and take their time to arrive."""
    clock = StripeClock(direct=True)
    now = 0.0
    with pytest.MonkeyPatch.context() as patch:
        times = SimpleNamespace(time=lambda: now + ahead + wrong, monotonic=lambda: now)
        patch.setattr(clock_module, "time", times)
        for pause, until_dated, until_here in answers:
            now += pause + until_dated
            date = formatdate(math.floor(now + ahead), usegmt=True)  # it would round to microseconds, and so up
            now += until_here
            clock.heard(date)
        told = clock.at(moment)
        assert told <= moment + ahead + 1e-6, "but for what floats of this size round"
        assert told >= moment + ahead - 2 - min(until_here for *_, until_here in answers)


@pytest.mark.parametrize("direct", [True, False])
def test_without_a_date_the_machines_own_clock_has_to_do(direct):
    clock = StripeClock(direct=direct)
    clock.heard(None)
    clock.heard("yesterday")
    assert abs(clock.at(time.monotonic()) - time.time()) < 2


def test_an_answer_of_stripes_sets_it(make_connection):
    with StripeIdentityServer(clock=lambda: 1_500_000_000.0) as server:
        hook: StripeIdentityHook = make_connection(server.airflow_connection())
        before = time.monotonic()
        hook.list_verification_sessions_page(limit=1)
        assert hook.client.clock.at(before) in (1_499_999_999, 1_500_000_000)


skew = st.floats(-1e5, 1e5)


@given(gateways=skew, workers=st.floats(-1e5, 0), moment=st.floats(0, 200), swapped=st.booleans())
def test_behind_a_gateway_it_is_a_lower_bound_unless_both_clocks_are_ahead(gateways, workers, moment, swapped):
    gateways, workers = (workers, gateways) if swapped else (gateways, workers)
    stripe, clock = 1e9, StripeClock(direct=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock_module, "time", SimpleNamespace(time=lambda: stripe + workers, monotonic=lambda: 0.0))
        clock.heard(formatdate(math.floor(stripe + gateways), usegmt=True))
        assert clock.at(moment) <= moment + stripe


def test_only_stripes_own_host_is_trusted_with_the_time(make_connection):
    with StripeIdentityServer(clock=lambda: time.time() + 40) as gateway:
        hook: StripeIdentityHook = make_connection(gateway.airflow_connection())
        hook.list_verification_sessions_page(limit=1)
        assert hook.client.clock.at(time.monotonic()) <= time.time()
    clock = make_connection("stripe-identity://:sk_test_x@").client.clock
    clock.heard(formatdate(time.time() + 40))
    assert clock.at(time.monotonic()) > time.time() + 30

"""Outages in the middle of a listing: they cost their own length, all requests wait together, and one probes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from airflow_provider_stripe_identity._stripe_api import outage as outage_module
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity._stripe_api.errors import StripeAPIConnectionError, StripeAPIError
from airflow_provider_stripe_identity._stripe_api.listing import list_objects, list_page
from airflow_provider_stripe_identity._stripe_api.outage import Outage
from airflow_provider_stripe_identity._stripe_api.pages import VERIFICATION_SESSIONS
from airflow_provider_stripe_identity.exceptions import StripeRateLimitError
from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

START, END = 1_000_000, 1_086_400


class FastWorld:
    """A world in which waiting for an outage takes no time, and in which Stripe is away for a while."""

    def __init__(self, server: StripeIdentityServer) -> None:
        self.now = 1_000.0
        self._server = server
        self._back_at = 0.0
        self.probes: list[float] = []

    def stripe_leaves(self, seconds: float, *faults: Fault) -> None:
        """Let every request fail for a while, as it passes here."""
        self._back_at = self.now + seconds
        self._server.fault_every(1, *faults)

    def monotonic(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self._back_at:
            self._server.clear_faults()


@pytest.fixture
def world(stripe_identity_server: StripeIdentityServer, monkeypatch: pytest.MonkeyPatch) -> FastWorld:
    world = FastWorld(stripe_identity_server)
    stripe_identity_server.populate(6_000, START, END)
    monkeypatch.setattr(outage_module, "time", world)
    wait = threading.Condition.wait

    class Condition(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            if not owner[0]._probing:  # somebody waits for the time of the next probe: let it come
                world.passes(timeout or 0)
                timeout = 0
            return wait(self, timeout)

    owner: list[Outage] = []
    init = Outage.__init__

    def make(self: Outage, *arguments: float) -> None:
        init(self, *arguments)
        self._changed = Condition()
        owner[:] = [self]

    monkeypatch.setattr(Outage, "__init__", make)
    return world


def client(server: StripeIdentityServer, **options: float) -> StripeIdentityClient:
    options = {"max_requests_per_second": 10_000.0, **options}
    return StripeIdentityClient(server.api_key, base_url=server.url, **options)


def listing(made: StripeIdentityClient) -> Iterator[dict]:
    return list_objects(made, VERIFICATION_SESSIONS, [], created_gte=START, created_lt=END)


OUTAGES = {
    "503 for 8 s": (8, Fault.status(503)),
    "503 for 40 s": (40, Fault.status(503)),
    "503 for 180 s": (180, Fault.status(503)),
    "429 for 120 s": (120, Fault.rate_limited()),
    "503 for 290 s": (290, Fault.status(503)),
    "resets for 180 s": (180, Fault.reset()),
}


@pytest.mark.parametrize(("seconds", "fault"), OUTAGES.values(), ids=OUTAGES)
def test_an_outage_costs_its_own_length_and_no_more(stripe_identity_server, world, caplog, seconds, fault):
    server = stripe_identity_server
    sessions = listing(client(server, max_retries=2))
    seen = [next(sessions)["id"]]
    began = world.now
    world.stripe_leaves(seconds, fault)
    sent = len(server.requests)
    with caplog.at_level(logging.INFO):
        seen += [session["id"] for session in sessions]
    assert seen == [session["id"] for session in server.sessions(created={"gte": START, "lt": END})]
    assert world.now - began <= seconds + outage_module.MAX_PAUSE
    failed = [request for request in list(server.requests)[sent:] if request.status != 200]
    # One request of each worker, and then one probe at a time.
    assert len(failed) <= 4 + 12 + seconds
    said = [message for message in caplog.messages if "all requests wait for Stripe" in message]
    assert "".join(said).isprintable(), "each in one line"
    assert 1 <= len(said) <= 1 + seconds // outage_module.LOG_EVERY
    assert sum("Stripe responds again" in message for message in caplog.messages) == 1
    assert not any("trying again" in message for message in caplog.messages)


def test_a_longer_outage_than_allowed_is_given_up_with_stripes_own_error(stripe_identity_server, world, caplog):
    sessions = listing(client(stripe_identity_server, max_outage=60))
    next(sessions)
    began = world.now
    world.stripe_leaves(10_000, Fault.status(503))
    with pytest.raises(StripeAPIError, match="503"):
        list(sessions)
    assert 60 <= world.now - began <= 60 + outage_module.MAX_PAUSE
    assert any("giving up (max_outage)" in message for message in caplog.messages)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stripe-identity")]


def test_retry_after_rules(stripe_identity_server, world):
    """No request is sent before the time that Stripe asks for, however often a probe would come otherwise."""
    sessions = listing(client(stripe_identity_server, max_concurrency=1))
    next(sessions)
    began = world.now
    world.stripe_leaves(100, Fault.rate_limited(Retry_After="110"))
    sent = len(stripe_identity_server.requests)
    list(sessions)
    refused = [request for request in list(stripe_identity_server.requests)[sent:] if request.status == 429]
    assert len(refused) == 1
    assert 110 <= world.now - began <= 111


def test_what_fails_for_one_request_alone_is_not_tried_for_ever(stripe_identity_server, world):
    """Others succeed in between, so Stripe is there; this one page of the list is broken."""
    server = stripe_identity_server
    made = client(server, max_retries=2)
    list_page(made, VERIFICATION_SESSIONS, [], limit=1)
    broken = [("created[gte]", "1")]
    failures = 0

    def fail_alone(request, response):
        nonlocal failures
        if ("created[gte]", "1") in request.query:
            failures += 1
            made._outage.answered(made._outage.number)  # somebody else's success
            return Fault.status(500).response
        return None

    server.after_answer = fail_alone
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_provider_stripe_identity._stripe_api.client.FIRST_BACKOFF", 0.0)
        with pytest.raises(StripeAPIError, match="500"):
            made.get(VERIFICATION_SESSIONS, broken, patient=True)
    assert failures == 6  # three attempts, each of which met two outages


QUICK: dict[str, Callable[[StripeIdentityClient], object]] = {
    "one page": lambda made: list_page(made, VERIFICATION_SESSIONS, [], limit=1),
    "a sensor's check": lambda made: list(list_objects(made, VERIFICATION_SESSIONS, [])),
    "a listing without retries": lambda made: list(listing(made)),
}


@pytest.mark.parametrize("ask", QUICK.values(), ids=QUICK)
def test_no_other_request_waits(stripe_identity_server, world, ask):
    made = client(stripe_identity_server, max_retries=0)
    list_page(made, VERIFICATION_SESSIONS, [], limit=1)
    began = world.now
    world.stripe_leaves(200, Fault.rate_limited())
    with pytest.raises(StripeRateLimitError):
        ask(made)
    assert world.now == began


def test_an_answer_that_was_on_its_way_does_not_end_an_outage():
    outage = Outage()
    outage.answered(outage.number)
    sent = outage.number
    error = StripeAPIConnectionError("GET /v1/events", "gone", retryable=True)
    assert outage.failed(error, probe=False) == 1
    outage.answered(sent)
    assert outage.failed(error, probe=False) == 1, "it goes on"
    outage.answered(outage.number)
    assert outage.failed(error, probe=False) == 2


@pytest.mark.usefixtures("instant_backoff")
def test_a_connection_that_never_worked_is_no_outage(world):
    with StripeIdentityServer() as server:
        made = client(server, max_retries=1)
    with pytest.raises(StripeAPIConnectionError):
        list(listing(made))
    assert world.now == 1_000


def test_a_short_one_in_real_time(stripe_identity_server):
    server = stripe_identity_server
    server.populate(3_000, START, END)
    sessions = listing(client(server, max_retries=1))
    seen = [next(sessions)["id"]]
    server.fault_every(1, Fault.status(503))
    timer = threading.Timer(2, server.clear_faults)
    timer.start()
    try:
        seen += [session["id"] for session in sessions]
    finally:
        timer.join()
    assert seen == [session["id"] for session in server.sessions(created={"gte": START, "lt": END})]


@pytest.mark.parametrize("fault", [Fault.delay(60), Fault.drip(60)], ids=["silent", "dripping"])
def test_a_listing_that_is_left_ends_soon_while_stripe_hangs(stripe_identity_server, fault):
    """As when ``execution_timeout`` raises in the task: its read timeout would be another minute."""
    server = stripe_identity_server
    server.populate(60_000, START, END)
    sessions = listing(client(server, timeout=60))
    next(sessions)
    hangs = threading.Event()
    server.fault_every(1, fault)
    server.before_answer = lambda request: hangs.set()
    while not hangs.wait(0.01):  # it reads a bounded number of pages ahead
        next(sessions)
    began = time.monotonic()
    sessions.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 20, "a third of its read timeout"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stripe-identity")]

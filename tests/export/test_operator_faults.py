"""Faults on the way: an export is the truth or fails with the right error, and then the next try succeeds."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.full_disk import full_disk

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity._stripe_api import ranges
from airflow_provider_stripe_identity.exceptions import StripeAPIConnectionError, StripeAPIError, StripeRateLimitError
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator
from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

MAY_1, MAY_2 = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)
START, END = int(MAY_1.timestamp()), int(MAY_2.timestamp())
DAY = {"data_interval_start": MAY_1, "data_interval_end": MAY_2}
OLD = b"what an earlier run wrote\n"
SESSIONS = 2_500


class Trouble(NamedTuple):
    """A fault, and the error of a task that meets it at every request; None where it delays only."""

    fault: Fault
    error: type[Exception] | None
    tried_again: bool = True

    @property
    def slow(self) -> bool:
        return self.fault.seconds >= 1


TROUBLES = {
    "a reset": Trouble(Fault.reset(), StripeAPIConnectionError),
    "a body cut short": Trouble(Fault.cut_short(), StripeAPIConnectionError),
    "a timeout": Trouble(Fault.delay(2), StripeAPIConnectionError),
    "a body that drips": Trouble(Fault.drip(2), StripeAPIConnectionError),
    "a late answer": Trouble(Fault.delay(0.01), None),
    "not JSON": Trouble(Fault.not_json(), StripeAPIError),
    "not a list": Trouble(Fault.not_a_list(), StripeAPIError),
    "an empty page": Trouble(Fault.empty_page(), StripeAPIError),
    "a stuck cursor": Trouble(Fault.stuck_cursor(), StripeAPIError),
    "409": Trouble(Fault.status(409), StripeAPIError),
    "429": Trouble(Fault.rate_limited(), StripeRateLimitError),
    "429 for concurrency": Trouble(Fault.rate_limited("endpoint-concurrency"), StripeRateLimitError),
    "429 with Retry-After": Trouble(Fault.rate_limited(Retry_After="0.01"), StripeRateLimitError),
    "429 for a lock": Trouble(Fault.rate_limited(None), StripeRateLimitError),
    "500": Trouble(Fault.status(500), StripeAPIError),
    "502": Trouble(Fault.status(502), StripeAPIError),
    "503": Trouble(Fault.status(503), StripeAPIError),
    "400 to be tried again": Trouble(Fault.status(400, headers={"Stripe-Should-Retry": "true"}), AirflowFailException),
    "500 not to be tried again": Trouble(
        Fault.status(500, headers={"Stripe-Should-Retry": "false"}), StripeAPIError, tried_again=False
    ),
    "400": Trouble(Fault.status(400), AirflowFailException, tried_again=False),
    "401": Trouble(Fault.status(401), AirflowFailException, tried_again=False),
    "403": Trouble(Fault.status(403), AirflowFailException, tried_again=False),
    "404": Trouble(Fault.status(404), AirflowFailException, tried_again=False),
    "a redirect": Trouble(Fault.redirect("http://127.0.0.1:1/"), AirflowFailException, tried_again=False),
}


@pytest.fixture(scope="module")
def stripe() -> Iterator[StripeIdentityServer]:
    """Stripe with a day of sessions, more of them before and after it."""
    with StripeIdentityServer() as server:
        server.populate(SESSIONS, MAY_1, MAY_2)
        for second in (START - 1, START, START, END - 1, END):
            server.create_session(created=second)
        yield server


@pytest.fixture
def connect(stripe: StripeIdentityServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    def connect(*troubles: Trouble, **extra: float) -> None:
        # A busy machine is slow by itself: be patient where nothing is to be too slow.
        timeout = 0.3 if any(trouble.slow for trouble in troubles) else 60
        extra = {"timeout": timeout, "max_requests_per_second": 10_000, **extra}
        connection = json.loads(stripe.airflow_connection()) | {"extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))

    # Several ranges even of so few sessions.
    monkeypatch.setattr(ranges, "PAGES_A_RANGE", 2)
    yield connect
    stripe.clear_faults()


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    file = tmp_path / "sessions.jsonl"
    file.write_bytes(OLD)
    return file


def export(destination: Path) -> dict:
    operator = StripeIdentityToObjectStorageOperator(task_id="export", destination=destination.as_uri())
    return operator.execute(DAY)


def check_whole(stripe: StripeIdentityServer, destination: Path) -> None:
    truth = [
        {name: value for name, value in session.items() if name in DEFAULT_FIELDS}
        for session in stripe.sessions(created={"gte": START, "lt": END})
    ]
    assert len(truth) == SESSIONS + 3
    assert [json.loads(line) for line in destination.read_bytes().decode().split("\n")[:-1]] == truth
    assert [path.name for path in destination.parent.iterdir()] == [destination.name]


def check_untouched(destination: Path) -> None:
    assert destination.read_bytes() == OLD
    assert [path.name for path in destination.parent.iterdir()] == [destination.name]


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
@pytest.mark.usefixtures("instant_backoff")
class TestOneFault:
    def test_now_and_then(self, stripe, connect, destination, trouble: Trouble) -> None:
        connect(trouble, max_retries=12)
        stripe.fault_every(4, trouble.fault)
        if trouble.tried_again:
            assert export(destination)["sessions"] == SESSIONS + 3
        else:
            with pytest.raises(trouble.error):
                export(destination)
            check_untouched(destination)
            stripe.clear_faults()
            connect()
            export(destination)
        check_whole(stripe, destination)

    def test_always_and_then_no_more(self, stripe, connect, destination, trouble: Trouble) -> None:
        connect(trouble, max_retries=1)
        stripe.fault_every(1, trouble.fault)
        if trouble.error is None:
            export(destination)
        else:
            with pytest.raises(trouble.error) as raised:
                export(destination)
            assert type(raised.value) is trouble.error
            check_untouched(destination)
            stripe.clear_faults()
            connect()
            export(destination)
        check_whole(stripe, destination)


def test_no_room_for_the_temporary_file(stripe, connect, destination) -> None:
    connect()
    with full_disk(), pytest.raises(OSError, match="File too large"):
        export(destination)
    check_untouched(destination)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("stripe-identity")]
    export(destination)
    check_whole(stripe, destination)


folders = itertools.count()


@pytest.mark.usefixtures("instant_backoff")
@given(
    names=st.sets(st.sampled_from(sorted(TROUBLES)), min_size=1, max_size=6),
    every=st.integers(2, 12),
    seed=st.integers(0, 2**32),
    max_retries=st.integers(0, 8),
    workers=st.integers(1, 6),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_faults_mixed_at_random(stripe, connect, tmp_path, names, every, seed, max_retries, workers) -> None:
    destination = tmp_path / str(next(folders)) / "sessions.jsonl"
    destination.parent.mkdir()
    destination.write_bytes(OLD)
    mixed = [TROUBLES[name] for name in sorted(names)]
    connect(*mixed, max_retries=max_retries, max_concurrency=workers)
    stripe.fault_every(every, *(trouble.fault for trouble in mixed), seed=seed)
    try:
        export(destination)
    except tuple(trouble.error for trouble in mixed if trouble.error):
        check_untouched(destination)
        stripe.clear_faults()
        connect()
        export(destination)
    stripe.clear_faults()
    check_whole(stripe, destination)

"""Whose clock says that a window is over: Stripe's, before and after it is read."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_provider_stripe_identity._airflow.version_compat import AirflowException, AirflowFailException
from airflow_provider_stripe_identity._export import windows
from airflow_provider_stripe_identity.operators import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityEventsToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
)
from airflow_provider_stripe_identity.testing import StripeIdentityServer

SETTLE = timedelta(seconds=30)
OPERATORS = [
    StripeIdentityToObjectStorageOperator,
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityEventsToObjectStorageOperator,
]


class World:
    """Stripe, whose clock differs from this worker's, and in which sleeping takes no time."""

    def __init__(self, worker_ahead: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept = 0.0
        self.worker_ahead = worker_ahead
        self.server = StripeIdentityServer(clock=self.stripes_time)
        self.asleep = lambda: None
        times = SimpleNamespace(
            time=self.workers_time, monotonic=lambda: time.monotonic() + self.slept, sleep=self.sleep
        )
        monkeypatch.setattr(windows, "time", times)
        monkeypatch.setattr("airflow_provider_stripe_identity._stripe_api.clock.time", times)
        monkeypatch.setattr("airflow_provider_stripe_identity.operators.export.time", times)

    def stripes_time(self) -> float:
        return time.time() + self.slept - self.worker_ahead

    def workers_time(self) -> float:
        return time.time() + self.slept

    def sleep(self, seconds: float) -> None:
        self.asleep()
        self.slept += seconds

    def export(self, tmp_path, end: int, operator=StripeIdentityToObjectStorageOperator) -> list[dict]:
        file = tmp_path / "sessions.jsonl"
        day = {"data_interval_start": datetime.fromtimestamp(end - 3600, UTC)}
        day |= {"data_interval_end": datetime.fromtimestamp(end, UTC)}
        self.result = operator(task_id="export", destination=file.as_uri(), settle=SETTLE).execute(day)
        return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def make_world(monkeypatch):
    worlds = []

    def make(worker_ahead: float) -> World:
        world = World(worker_ahead, monkeypatch)
        worlds.append(world)
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", world.server.start().airflow_connection())
        return world

    yield make
    for world in worlds:
        world.server.stop()


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_worker_that_is_ahead_waits_until_the_window_is_over_at_stripe(make_world, tmp_path, caplog, operator):
    """By its own clock the window ended 40 s ago; at Stripe, sessions are still created in it."""
    world = make_world(worker_ahead=90)
    end = int(world.workers_time()) - 40
    last: list[str] = []
    world.asleep = lambda: last.append(world.server.create_session()["id"]) if not last else None
    rows = world.export(tmp_path, end, operator)
    assert [row["id"] for row in rows] == last
    assert world.stripes_time() >= end + 30
    assert 75 <= world.slept <= 85
    assert "clocks of this worker and of Stripe" in caplog.text


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_worker_that_is_behind_waits(make_world, tmp_path, operator):
    """The window ended at Stripe a second ago, and by this worker's clock ends in 34 s."""
    world = make_world(worker_ahead=-35)
    world.server.create_session()
    end = int(world.stripes_time()) + 1
    world.slept += 2
    assert len(world.export(tmp_path, end, operator)) == 1
    assert 2 < world.slept <= 72


def test_a_window_that_ends_later_by_every_clock_is_refused(make_world, tmp_path):
    world = make_world(worker_ahead=-35)
    with pytest.raises(AirflowFailException, match="ends in the future"):
        world.export(tmp_path, int(world.stripes_time()) + 40)
    assert world.slept == 0


def test_a_clock_that_is_days_ahead_is_found_after_the_reading(make_world, tmp_path):
    """No request was spent on the time of a window that seems long over; the answers bring it all the same."""
    world = make_world(worker_ahead=10 * 86_400)
    with pytest.raises(AirflowException, match="Set the clock of this worker"):
        world.export(tmp_path, int(world.workers_time()) - 2 * 86_400)
    assert not list(tmp_path.iterdir())


def test_a_difference_that_nobody_would_wait_for_is_an_error_that_says_so(make_world, tmp_path):
    """A gateway whose clock is half an hour late: each run of a window that has just ended would wait for it."""
    world = make_world(worker_ahead=1_800)
    with pytest.raises(AirflowException, match=r"differs from it by (1799|1800|1801) s.\nSet the one that is wrong"):
        world.export(tmp_path, int(world.workers_time()) - 60)
    assert world.slept == 0
    assert not list(tmp_path.iterdir())


def test_a_read_is_as_of_a_second_after_its_window(make_world, tmp_path):
    """So it is never as of the same second as the last event of the window."""
    world = make_world(worker_ahead=0)
    end = int(world.stripes_time())
    world.export(tmp_path, end)
    assert world.result["as_of"] > end


@pytest.mark.parametrize("ahead", [-40, 0, 40])
def test_as_of_is_a_lower_bound_whatever_a_gateways_clock_says(make_world, tmp_path, ahead):
    world = make_world(worker_ahead=-ahead)  # the emulator stands for a gateway; this machine is right
    began = time.time()
    world.export(tmp_path, int(began) - 7200)
    assert world.result["as_of"] <= began - 30

"""Sessions change while they are exported: the window's set is exact, and each line is a state that a session had."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.accounts import accounts

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity._stripe_api import ranges
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator
from airflow_provider_stripe_identity.testing import EmulatorError, Fault, StripeIdentityServer
from airflow_provider_stripe_identity.testing.server import RecordedRequest

MAY_1, MAY_2 = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)
START, END = int(MAY_1.timestamp()), int(MAY_2.timestamp())
DAY = {"data_interval_start": MAY_1, "data_interval_end": MAY_2}
FAULTS = [Fault.reset(), Fault.status(500), Fault.cut_short(), Fault.rate_limited(), Fault.stuck_cursor()]

Change = tuple[str, int]


class Live:
    """One account, in which something happens before each of its requests is answered."""

    def __init__(self, server: StripeIdentityServer, account: str, changes: list[list[Change]]) -> None:
        self.server = server
        self.account = account
        self.states: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for session in server.sessions(account=account):
            self._note(session)
        self.before = set(self.states)
        self._ids = list(self.states)
        self._changes = iter(changes)
        self._lock = threading.Lock()

    def __enter__(self) -> Live:
        def change(request: RecordedRequest) -> None:
            with self._lock:
                for what, number in next(self._changes, []):
                    self._happen(what, number)

        self.server.before_answer = change
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.server.before_answer = None

    def _happen(self, what: str, number: int) -> None:
        if what == "create":
            self._note(self.server.create_session(account=self.account, created=number))
        elif self._ids:
            # Stripe refuses some, such as to cancel what is verified.
            with suppress(EmulatorError):
                self._note(getattr(self.server, what)(self._ids[number % len(self._ids)]))

    def _note(self, session: dict[str, Any]) -> None:
        row = {name: value for name, value in session.items() if name in DEFAULT_FIELDS}
        self.states[session["id"]].append(row)


SECONDS = st.sampled_from([START - 1, START, END - 1, END, END + 1]) | st.integers(START, END - 1)
CHANGES = st.tuples(st.just("create"), SECONDS) | st.tuples(
    st.sampled_from(["process", "verify", "require_input", "cancel", "redact"]), st.integers(0, 2_000)
)


@pytest.mark.usefixtures("instant_backoff")
@given(
    many=st.integers(0, 900),
    few=st.lists(SECONDS, max_size=10),
    changes=st.lists(st.lists(CHANGES, max_size=12), max_size=15),
    status=st.none() | st.sampled_from(["verified", "canceled", "requires_input"]),
    workers=st.integers(1, 4),
    faults=st.none() | st.integers(2, 9),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_set_is_exact_and_each_line_is_one_state(
    shared_server, tmp_path, many, few, changes, status, workers, faults, seed
) -> None:
    account, destination = next(accounts), tmp_path / "sessions.jsonl"
    shared_server.populate(many, MAY_1, MAY_2, seed=seed, account=account)
    for second in few:
        shared_server.create_session(account=account, created=second)
    operator = StripeIdentityToObjectStorageOperator(
        task_id="export",
        destination=destination.as_uri(),
        status=status,
        stripe_account=account,
        max_concurrency=workers,
    )
    with pytest.MonkeyPatch.context() as patch, Live(shared_server, account, changes) as live:
        patch.setattr(ranges, "PAGES_A_RANGE", 1)
        connection = json.loads(shared_server.airflow_connection()) | {"extra": {"max_retries": 30}}
        patch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
        if faults:
            shared_server.fault_every(faults, *FAULTS, seed=seed)
        result = operator.execute(DAY)
        shared_server.clear_faults()
    check(live, status, destination, result)


def check(live: Live, status: str | None, destination: Path, result: dict[str, Any]) -> None:
    rows = [json.loads(line) for line in destination.read_bytes().decode().split("\n")[:-1]]
    ids = [row["id"] for row in rows]
    assert len(ids) == len({*ids}) == result["sessions"]
    assert [row["created"] for row in rows] == sorted((row["created"] for row in rows), reverse=True)
    for row in rows:
        assert row in live.states[row["id"]], "a state that the session never had"
        assert status in (None, row["status"])
        assert START <= row["created"] < END
    # Those that belonged to it all the time are there; one that came or left meanwhile may be.
    belonged = {
        known
        for known in live.before
        if START <= live.states[known][0]["created"] < END
        and all(status in (None, state["status"]) for state in live.states[known])
    }
    assert belonged <= {*ids}

"""Which row of a session stays in the table when several are as of the same second, in every order of loading."""

from __future__ import annotations

import itertools
import json
import time
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_stripe_identity._export.lifecycle import lifecycle_step
from airflow_provider_stripe_identity.operators import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
    StripeIdentityToWarehouseOperator,
)
from airflow_provider_stripe_identity.schema import ddl, merge
from airflow_provider_stripe_identity.testing import StripeIdentityServer

FIELDS = ["id", "status", "metadata"]
TYPE = "identity.verification_session."

# Few of them, so that much is as of the same one.
seconds = st.integers(0, 3)
histories = st.lists(st.tuples(seconds, st.sampled_from(["update", "processing", "verified"])), max_size=8).map(
    lambda changes: sorted(changes, key=lambda change: change[0])
)
#: When an object is read, how much earlier than that it is as of, and whether it was refetched.
reads = st.lists(st.tuples(seconds, st.integers(0, 2), st.booleans()), max_size=3)


def objects_of(history, reads):
    """Yield ``(as_of, row)`` of every object that there may be: an event's snapshot each, and the reads."""
    state: dict[str, Any] = {"id": "vs_1", "status": "created", "metadata": 0}
    steps = [(-1, TYPE + "created", dict(state))]
    for at, change in history:
        if change == "update":
            state["metadata"] += 1
        elif lifecycle_step(TYPE + change) > lifecycle_step(TYPE + state["status"]):
            state["status"] = change
        else:
            continue
        steps.append((at, TYPE + change, dict(state)))
    happened = [step for step in steps if step[1] != TYPE + "update"]
    for at, kind, snapshot in happened:
        yield None, snapshot | {"_event_type": kind, "_event_id": kind, "_event_created": at}
    for at, early, refetched in reads:
        row = [snapshot for second, _, snapshot in steps if second < at][-1:]
        # A refetched row is as of later than the second after its event.
        known = [step for step in happened if step[0] + 1 < at - early]
        if row and refetched and known:
            yield at - early, row[0] | {"_event_type": known[-1][1], "_event_id": "x", "_event_created": known[-1][0]}
        elif row:
            yield at - early, row[0] | {"_event_type": None, "_event_id": None, "_event_created": None}


def merged(loaded):
    """Merge rows, each with the ``as_of`` of its object, one after another; return what the table then has."""
    with duckdb.connect() as warehouse:
        warehouse.execute(ddl("duckdb", "sessions", fields=FIELDS))
        warehouse.execute(ddl("duckdb", "staged", fields=FIELDS))
        for as_of, row in loaded:
            warehouse.execute("DELETE FROM staged")
            names = ", ".join(row)
            values = [json.dumps(value) if name == "metadata" else value for name, value in row.items()]
            warehouse.execute(f"INSERT INTO staged ({names}) VALUES (?, ?, ?, ?, ?, ?)", values)
            warehouse.execute(merge("duckdb", "sessions", "staged", as_of=as_of, fields=FIELDS))
        return warehouse.execute("SELECT status, metadata, _as_of FROM sessions").fetchone()


@given(history=histories, reads=reads, data=st.data())
@settings(deadline=None)
def test_every_update_of_metadata_before_as_of_is_in_the_row(history, reads, data):
    """``metadata`` counts its updates, of which Stripe emits no event."""
    everything = list(objects_of(history, reads))
    loaded = data.draw(st.permutations(data.draw(st.lists(st.sampled_from(everything), min_size=1, unique_by=str))))
    status, metadata, as_of = merged(loaded)
    assert as_of == max(row["_event_created"] + 1 if read is None else read for read, row in loaded)
    # An event's row says nothing of what came after the event in its second.
    sure_before = as_of if as_of in [read for read, _ in loaded] else as_of - 1
    assert int(metadata) >= sum(change == "update" for at, change in history if at < sure_before)
    steps = [lifecycle_step(row["_event_type"]) for read, row in loaded if read is None]
    steps += [lifecycle_step(TYPE + change) for at, change in history if at < sure_before and change != "update"]
    assert lifecycle_step(TYPE + status) >= max([*steps, -1])


@pytest.mark.parametrize("refetched", [False, True])
@pytest.mark.parametrize("order", [1, -1], ids=["event first", "read first"])
def test_an_update_of_metadata_between_an_event_and_as_of_is_not_undone(refetched, order):
    """``verified`` and then the update in second 5; the read is as of second 6, as the event's row is."""
    event = {"_event_type": f"{TYPE}verified", "_event_id": "evt_2", "_event_created": 5}
    snapshot = {"id": "vs_1", "status": "verified", "metadata": 0} | event
    known = (f"{TYPE}created", "evt_1", 3) if refetched else (None, None, None)
    read = snapshot | {"metadata": 1} | dict(zip(event, known, strict=True))
    assert merged([(None, snapshot), (6, read)][::order]) == ("verified", "1", 6)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load objects into a table of their own, one after another or several at once; return its rows."""
    numbers = itertools.count()

    def run(*loads):
        file = tmp_path / f"{next(numbers)}.duckdb"
        monkeypatch.setenv("AIRFLOW_CONN_DUCKDB_DEFAULT", json.dumps({"conn_type": "duckdb", "host": str(file)}))
        for written in loads:
            StripeIdentityToWarehouseOperator(
                task_id="load", written=written, warehouse_conn_id="duckdb_default", table="sessions"
            ).execute({})
        with duckdb.connect(str(file)) as warehouse:
            return dict(warehouse.execute("SELECT id, status FROM sessions").fetchall())

    return run


def test_processing_and_verified_in_one_second_in_one_object_and_in_two(load, tmp_path, monkeypatch):
    """The second is the last one of a window; ``verified`` of some sessions is listed after the window was read."""
    clock = SimpleNamespace(now=int(time.time()) - 7200)
    end = clock.now + 1
    with StripeIdentityServer(clock=lambda: clock.now) as server:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        ids = [server.create_session()["id"] for _ in range(6)]
        for session_id in ids:
            server.process(session_id)
        for session_id in ids[:3]:
            server.verify(session_id)

        def changes(name, start, end):
            clock.now = end + 60
            return StripeIdentityChangesToObjectStorageOperator(
                task_id=name, destination=(tmp_path / name).as_uri(), created_gte=start, created_lt=end
            ).execute({})

        first = changes("first.jsonl", end - 60, end)
        clock.now = end - 1
        for session_id in ids[3:]:
            server.verify(session_id)
        second = changes("second.jsonl.gz", end, end + 60)
        export = StripeIdentityToObjectStorageOperator(
            task_id="export", destination=(tmp_path / "export.jsonl").as_uri(), created_gte=end - 60, created_lt=end
        ).execute({})
    assert first["statuses"] == {"verified": 3, "processing": 3}
    verified = dict.fromkeys(ids, "verified")
    for order in itertools.permutations([first, second, export]):
        assert load(*order) == verified
    for loads in ([first, second], [second, first], [second, first, first]):
        assert load(*loads) == verified
        assert load(loads) == verified, "in one load"

"""
Five thousand people waiting: deferred sensors in Airflow's own TriggerRunner, with and without the shared poll.

``make bench``. The embedded server runs in this process; the connection allows 200 requests a second instead of 20,
only to keep the joining short.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow_home_")
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"

import airflow.jobs.triggerer_job_runner as triggerer

from airflow_provider_stripe_identity.testing import StripeIdentityServer
from airflow_provider_stripe_identity.triggers import StripeIdentityVerifiedTrigger

PEOPLE, INTERVAL, RATE = 5_000, 5.0, 200


async def wait_for(people: int, server: StripeIdentityServer, *, shared: bool) -> dict:
    """Let that many triggers wait, then verify everybody; return what was measured."""
    runner, ids, blocked = triggerer.TriggerRunner(), itertools.count(1), []
    triggerer.stats.incr = lambda name, *_, **__: blocked.append(name) if "blocked" in name else None
    sessions = [server.create_session(client_reference_id=f"user_{number}")["id"] for number in range(people)]
    server.requests.clear()
    began = time.monotonic()
    for number in range(people):
        trigger = StripeIdentityVerifiedTrigger(
            client_reference_id=f"user_{number}", stripe_conn_id="stripe_identity_default", poke_interval=INTERVAL
        )
        if not shared:
            trigger.shared_stream_key = lambda: None
        trigger_id = trigger.trigger_id = next(ids)
        trigger.task_instance = None
        runner.triggers[trigger_id] = {"task": None, "is_watcher": True, "name": "wait", "events": 0}
        runner.triggers[trigger_id]["task"] = asyncio.create_task(runner.run_trigger(trigger_id, trigger, None, None))
        await asyncio.sleep(0)  # as the triggerer does
    watchdog = asyncio.create_task(runner.block_watchdog())
    while len(server.requests) < people:
        await asyncio.sleep(0.1)
    joined = time.monotonic() - began
    before, blocked_joining = len(server.requests), len(blocked)
    await asyncio.sleep(4 * INTERVAL)
    steady, blocked_steady = (len(server.requests) - before) / 4, len(blocked) - blocked_joining
    for session_id in sessions:
        server.verify(session_id)
    verified, polled = time.monotonic(), len(server.requests)
    while len(runner.events) < people and time.monotonic() - verified < 20 * INTERVAL:
        await asyncio.sleep(0.05)
    fired = time.monotonic() - verified
    result = {
        "joining, checks": f"{before} in {joined:.0f} s",
        "steady state, requests an interval": f"{steady:.1f}",
        "all verified: fired": f"{len(runner.events)} in {fired:.1f} s",
        "requests for that": len(server.requests) - polled,
        "Airflow's warning of a blocked event loop: joining, steady, verified": (
            f"{blocked_joining}, {blocked_steady}, {len(blocked) - blocked_joining - blocked_steady}"
        ),
    }
    watchdog.cancel()
    for details in runner.triggers.values():
        details["task"].cancel()
    await asyncio.gather(watchdog, *(d["task"] for d in runner.triggers.values()), return_exceptions=True)
    return result


def main() -> None:
    if len(sys.argv) > 1:
        with StripeIdentityServer() as server:
            connection = json.loads(server.airflow_connection()) | {"extra": {"max_requests_per_second": RATE}}
            os.environ["AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT"] = json.dumps(connection)
            print(json.dumps(asyncio.run(wait_for(PEOPLE, server, shared=sys.argv[1] == "shared"))))
        return
    results = []
    for kind in ("shared", "alone"):
        done = os.popen(f"{sys.executable} {__file__} {kind} 2>/dev/null").read()
        results.append(json.loads(done.splitlines()[-1]))
    table = [f"| {PEOPLE:,} triggers, an interval of {INTERVAL:g} s | one poll | each its own |", "|---|---|---|"]
    table += [f"| {name} | {results[0][name]} | {results[1][name]} |" for name in results[0]]
    print("\n".join(table))
    (Path(__file__).parent / "results-waiting.md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()

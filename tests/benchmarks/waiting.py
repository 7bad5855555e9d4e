"""
Five thousand people waiting: deferred sensors in Airflow's own TriggerRunner, on one connection, on twenty, and with
one of the twenty hung; beside them as many triggers that do nothing, for what Airflow itself takes.

``make bench``, or ``python tests/benchmarks/waiting.py "one connection"`` for one column. The emulators run in another
process. The connections allow 200 requests per second in all, ten times the default of one, only to keep the joining
short. A bystander asks the event loop's default pool for a thread, and for an address, every 50 ms. What it waits
depends on what else the machine does; the CPU time of the loop's longest turn, and of Python's longest garbage
collection, which stops all threads, do not.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow_home_")
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"

import airflow.jobs.triggerer_job_runner as triggerer
import psutil
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_stripe_identity.testing import StripeIdentityServer
from airflow_provider_stripe_identity.triggers import StripeIdentityVerifiedTrigger

PEOPLE, INTERVAL, RATE = 5_000, 5.0, 200
NOTHING = "triggers that do nothing"
#: Connections, and how many of them hang.
CASES = {NOTHING: (1, 0), "one connection": (1, 0), "20 connections": (20, 0), "20 connections, one hung": (20, 1)}


class Idle(BaseEventTrigger):
    """Shares a stream as the sensors do, and fires with its first item."""

    go = asyncio.Event()
    joined = 0

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (f"{__name__}.Idle", {"number": self.number})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        raise NotImplementedError
        yield

    def shared_stream_key(self) -> str:
        return "idle"

    @classmethod
    async def open_shared_stream(cls, _: dict[str, Any]) -> AsyncIterator[str]:
        while True:
            await cls.go.wait()
            yield "go"
            await asyncio.sleep(INTERVAL)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[str]) -> AsyncIterator[TriggerEvent]:
        type(self).joined += 1
        async for item in shared_stream:
            yield TriggerEvent(item)
            return


class Loop(asyncio.SelectorEventLoop):
    """An event loop that knows the CPU time of its longest turn."""

    longest_turn = 0.0

    def _run_once(self) -> None:
        began = time.thread_time()
        super()._run_once()  # type: ignore[misc]
        self.longest_turn = max(self.longest_turn, time.thread_time() - began)


class Bystander:
    """Another provider's trigger, and the longest that it waited."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.thread = self.address = self.loop = self.collection = self._collection_began = 0.0
        gc.callbacks.append(self._collecting)

    def reset(self) -> str:
        """Return what was measured since the last time, in milliseconds."""
        waited = self.thread, self.address, self.loop, self._loop.longest_turn, self.collection
        self.thread = self.address = self.loop = self._loop.longest_turn = self.collection = 0.0
        return " / ".join(f"{seconds * 1000:.0f}" for seconds in waited)

    def _collecting(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collection_began = time.thread_time()
        else:
            self.collection = max(self.collection, time.thread_time() - self._collection_began)

    async def run(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.to_thread(lambda: None)
            self.thread = max(self.thread, time.perf_counter() - began)
            began = time.perf_counter()
            await self._loop.getaddrinfo("localhost", 80)
            self.address = max(self.address, time.perf_counter() - began)
            began = time.perf_counter()
            await asyncio.sleep(0.05)
            self.loop = max(self.loop, time.perf_counter() - began - 0.05)


def serve(number: int, hung: int, pipe: Any) -> None:
    """Run the emulators, in a process of their own: answer (server, what) with what is asked for."""
    servers = [StripeIdentityServer(latency=3600.0 if index < hung else 0.0) for index in range(number)]
    sessions = {}
    for person in range(PEOPLE):
        server = servers[person % number]
        sessions[person] = server.create_session(client_reference_id=f"user_{person}")["id"]
    for server in servers:
        server.start()
    pipe.send([server.airflow_connection() for server in servers])
    while (path := pipe.recv()) is not None:
        if path == "verify":
            for person, session in sessions.items():
                if person % number >= hung:
                    servers[person % number].verify(session)
        paths = [request.path for server in servers[hung:] for request in list(server.requests)]
        pipe.send((len(paths), sum(asked.endswith("verification_sessions") for asked in paths)))
    os._exit(0)  # a request that hangs would be waited for


@contextmanager
def emulators(number: int, hung: int) -> Iterator[Callable[[str], Awaitable[tuple[int, int]]]]:
    """Yield a function that returns how many requests, and how many checks among them, the healthy ones have got."""
    pipe, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(number, hung, theirs))
    process.start()
    for index, connection in enumerate(pipe.recv()):
        extra = {"max_requests_per_second": RATE / number}
        os.environ[f"AIRFLOW_CONN_STRIPE_{index}"] = json.dumps(json.loads(connection) | {"extra": extra})

    async def ask(what: str) -> tuple[int, int]:
        pipe.send(what)
        while not pipe.poll():
            await asyncio.sleep(0.02)
        return pipe.recv()

    try:
        yield ask
    finally:
        pipe.send(None)
        process.join()


async def measure(case: str) -> dict[str, str]:
    """Let the triggers wait, then verify everybody on a connection that answers."""
    number, hung = CASES[case]
    triggerer.stats.incr = lambda *_, **__: None
    with emulators(number, hung) as ask:
        runner, ids = triggerer.TriggerRunner(), itertools.count(1)
        process = psutil.Process()
        memory = process.memory_info().rss
        expected = sum(person % number >= hung for person in range(PEOPLE))
        bystander = Bystander(asyncio.get_running_loop())
        watching = asyncio.create_task(bystander.run())
        await asyncio.sleep(1)
        before_all = bystander.reset()

        began = time.monotonic()
        for person in range(PEOPLE):
            trigger = (
                Idle(person)
                if case == NOTHING
                else StripeIdentityVerifiedTrigger(
                    client_reference_id=f"user_{person}",
                    stripe_conn_id=f"stripe_{person % number}",
                    poke_interval=INTERVAL,
                )
            )
            trigger_id = trigger.trigger_id = next(ids)
            trigger.task_instance = None
            runner.triggers[trigger_id] = {"task": None, "is_watcher": True, "name": "wait", "events": 0}
            runner.triggers[trigger_id]["task"] = asyncio.create_task(
                runner.run_trigger(trigger_id, trigger, None, None)
            )
            await asyncio.sleep(0)  # as the triggerer does
        started, starting = time.monotonic() - began, bystander.reset()
        while (Idle.joined if case == NOTHING else (await ask("count"))[1]) < expected:
            await asyncio.sleep(0.5)
        joined, joining = time.monotonic() - began, bystander.reset()
        await asyncio.sleep(2 * INTERVAL)
        before = (await ask("count"))[0]
        bystander.reset()
        await asyncio.sleep(4 * INTERVAL)
        resting = bystander.reset()
        steady = ((await ask("count"))[0] - before) / 4
        ours = sum(thread.name.startswith("stripe-waiting") for thread in threading.enumerate())
        connected = sum(connection.status == "ESTABLISHED" for connection in process.net_connections())
        memory = (process.memory_info().rss - memory) >> 20

        polled = (await ask("verify"))[0]
        bystander.reset()
        verified = time.monotonic()
        Idle.go.set()
        while len(runner.events) < expected and time.monotonic() - verified < 20 * INTERVAL:
            await asyncio.sleep(0.02)
        fired, firing = time.monotonic() - verified, bystander.reset()
        requests = (await ask("count"))[0] - polled
        watching.cancel()
        for details in runner.triggers.values():
            details["task"].cancel()
        await asyncio.gather(*(d["task"] for d in runner.triggers.values()), return_exceptions=True)
    return {
        "started; all have checked once": f"{started:.1f} s; {joined:.0f} s",
        "at rest, requests an interval": f"{steady:.1f}",
        "all verified: fired": f"{len(runner.events):,} in {fired:.1f} s",
        "requests for that": str(requests),
        "ms a bystander waited at most for a thread / an address / the loop; "
        "CPU ms of a turn of the loop / of a garbage collection: before": before_all,
        "while the triggers start": starting,
        "while they check once": joining,
        "at rest": resting,
        "while all fire": firing,
        "memory": f"{memory} MB",
        "threads, sockets": f"{ours}, {connected}",
    }


def main() -> None:
    run = asyncio.Runner(loop_factory=Loop).run
    if len(sys.argv) > 1:
        print(json.dumps(run(measure(sys.argv[1]))), flush=True)
        os._exit(0)  # a request that hangs would be waited for
    results = []
    for case in CASES:
        done = os.popen(f"{sys.executable} {__file__} '{case}' 2>/dev/null").read()
        results.append(json.loads(done.splitlines()[-1]))
    table = [f"| {PEOPLE:,} triggers, an interval of {INTERVAL:g} s | " + " | ".join(CASES) + " |"]
    table += ["|---" * (len(CASES) + 1) + "|"]
    table += [f"| {name} | " + " | ".join(result[name] for result in results) + " |" for name in results[0]]
    print("\n".join(table))
    (Path(__file__).parent / "results-waiting.md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()

"""Triggers in Airflow's own TriggerRunner, against the emulator."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from airflow.triggers.base import BaseEventTrigger

from airflow_provider_stripe_identity.testing import StripeIdentityServer
from airflow_provider_stripe_identity.triggers import StripeIdentityVerifiedTrigger

T = TypeVar("T")
SESSIONS, EVENTS = "/v1/identity/verification_sessions", "/v1/events"


class Triggerer:
    """Airflow's TriggerRunner, with triggers given by hand instead of by its supervisor."""

    def __init__(self) -> None:
        from airflow.jobs.triggerer_job_runner import TriggerRunner

        self.runner = TriggerRunner()
        self.ids = itertools.count(1)

    def join(self, reference: str, **arguments: Any) -> int:
        return self.start(
            StripeIdentityVerifiedTrigger(
                **{
                    "client_reference_id": reference,
                    "stripe_conn_id": "stripe_identity_default",
                    "poke_interval": 0.02,
                    **arguments,
                }
            )
        )

    def start(self, trigger: BaseEventTrigger) -> int:
        trigger_id = trigger.trigger_id = next(self.ids)
        trigger.task_instance = None
        self.runner.triggers[trigger_id] = {"task": None, "is_watcher": True, "name": "trigger", "events": 0}
        self.runner.triggers[trigger_id]["task"] = asyncio.create_task(
            self.runner.run_trigger(trigger_id, trigger, None, None)
        )
        return trigger_id

    @property
    def fired(self) -> dict[int, dict[str, Any]]:
        """The payloads of the triggers that fired; none may fire twice."""
        payloads = {entry.trigger_id: entry.event.payload for entry in self.runner.events}
        assert len(payloads) == len(self.runner.events)
        return payloads

    async def until(self, check: Callable[[], object]) -> None:
        """Return when ``check`` holds; a trigger that failed ends it at once."""
        while not check():
            for details in self.runner.triggers.values():
                if details["task"].done():
                    details["task"].result()
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        for details in self.runner.triggers.values():
            details["task"].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await details["task"]


@contextlib.asynccontextmanager
async def triggerer() -> AsyncIterator[Triggerer]:
    made = Triggerer()
    try:
        yield made
    finally:
        await made.stop()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 110))


def asked(server: StripeIdentityServer, path: str) -> int:
    return sum(request.path == path for request in list(server.requests))


async def polls(made: Triggerer, server: StripeIdentityServer, count: int) -> None:
    """Wait until so many polls have begun and ended from now on."""
    goal = asked(server, EVENTS) + count + 1
    await made.until(lambda: asked(server, EVENTS) >= goal)

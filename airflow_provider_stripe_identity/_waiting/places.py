"""Where a watcher keeps its place in Stripe's events: in the state store of each of its assets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from airflow_provider_stripe_identity._airflow.version_compat import asset_state_stores
from airflow_provider_stripe_identity._waiting.events import Place, earliest

log = logging.getLogger(__name__)

#: A store that has not answered after as many seconds has failed.
STORE_TIMEOUT = 30.0
#: Seconds until a store that failed is tried again, doubled with every failure up to the second. The triggerer's
#: supervisor itself repeats a request that fails, and serves no other trigger meanwhile.
TRY_AGAIN_AFTER = 15.0
MAX_TRY_AGAIN_AFTER = 600.0


class KeptPlace:
    """
    A place in the state stores of all assets of one watcher, read and written beside its polls.

    Two assets whose watchers are equal share one trigger, so that each event reaches both. Going on from the earliest
    of their places, neither misses one.

    :param stores: the trigger's ``asset_state_store``, None where there is none (before Airflow 3.3)
    :param key: under which each store keeps it
    """

    def __init__(self, stores: Any, key: str) -> None:
        self._stores = asset_state_stores(stores)
        self._key = key
        self._place: Place | None = None
        self._writing: dict[int, asyncio.Task[None]] = {}

    async def read(self) -> Place | None:
        """Return the place, if there is one, as soon as every store has answered."""
        places = []
        for store in self._stores:
            value = await self._until_it_works("read", lambda: store.aget(self._key))  # noqa: B023
            try:
                places += [] if value is None else [Place.from_json(value)]
            except ValueError as error:
                log.error("Asset's state store, key %s: %s. Starting with what happens from now on", self._key, error)
        return earliest(places)

    def write(self, place: Place) -> None:
        """Keep the place as soon as the stores take it, or a later one; one that takes none delays no other."""
        self._place = place
        for number, store in enumerate(self._stores):
            if number not in self._writing or self._writing[number].done():
                self._writing[number] = asyncio.create_task(self._write(store))

    def close(self) -> None:
        """Stop writing."""
        for writing in self._writing.values():
            writing.cancel()

    async def _write(self, store: Any) -> None:
        written = None
        while written is not self._place:
            # The latest place, however long it takes.
            written = await self._until_it_works("written", lambda: self._write_latest(store))

    async def _write_latest(self, store: Any) -> Place | None:
        if place := self._place:
            await store.aset(self._key, place.as_json())
        return place

    async def _until_it_works(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        pause = TRY_AGAIN_AFTER
        while True:
            try:
                async with asyncio.timeout(STORE_TIMEOUT):
                    return await call()
            except Exception as error:  # whatever a database, an API server or a state backend raises
                if pause == TRY_AGAIN_AFTER:
                    log.warning(
                        "The asset's state store cannot be %s (%s); trying again. Until then the place in Stripe's "
                        "events is kept in memory, and a restart of the triggerer may repeat events",
                        what,
                        type(error).__name__,
                    )
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_TRY_AGAIN_AFTER)

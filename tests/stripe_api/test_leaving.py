"""A listing that is left, as ``execution_timeout`` leaves it, ends soon, even where its requests cannot be stopped."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_stripe_identity._export import changed_sessions
from airflow_provider_stripe_identity._stripe_api import concurrent_listing
from airflow_provider_stripe_identity.hooks import StripeIdentityHook

START, END = 1_000_000, 1_000_000 + 86_400


class Lookups:
    """The names of hosts: the first few are found, the others looked up for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found = 0
        self.hanging, self.let_go = threading.Event(), threading.Event()
        self._count = itertools.count()
        self._look_up = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        if next(self._count) >= self.found:
            self.hanging.set()
            self.let_go.wait()
        return self._look_up(*arguments, **more)


@pytest.fixture
def lookups(monkeypatch):
    lookups, others = Lookups(monkeypatch), set(threading.enumerate())
    # Otherwise a regression would hang here instead of failing.
    rescue = threading.Timer(60, lookups.let_go.set)
    rescue.start()
    yield lookups
    rescue.cancel()
    lookups.let_go.set()
    for thread in threading.enumerate():
        if thread not in others and thread.name.startswith(("stripe-identity", "stripe_identity")):
            thread.join()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    for module in (concurrent_listing, changed_sessions):
        monkeypatch.setattr(module, "MAX_LEAVING", 0.1)


def test_while_its_threads_look_up_a_name(server, lookups):
    server.populate(5_000, START, END)
    lookups.found = 1
    sessions: Any = StripeIdentityHook().list_verification_sessions(created_gte=START, created_lt=END)
    next(sessions)
    assert lookups.hanging.wait(60)
    sessions.close()
    assert not lookups.let_go.is_set()


def test_while_sessions_are_read_again(server, lookups):
    class Timeout(BaseException):
        """As Airflow raises in the main thread."""

    def changed() -> Iterator[dict[str, Any]]:
        yield server.create_session()
        assert lookups.hanging.wait(60)
        raise Timeout

    with pytest.raises(Timeout):
        list(changed_sessions.refetched(StripeIdentityHook(), changed(), ()))
    assert not lookups.let_go.is_set()

"""
HTTP responses that end: bounded in time and size where the bytes arrive, so in headers and bodies alike.

The public interfaces of requests, urllib3 and http.client do not reach there. This is the one module that uses others:
``ConnectionCls`` of urllib3's pool, ``response_class`` of its connection, ``fp`` and ``headers`` of a response.
Verified with requests 2.34.2, urllib3 2.8.0 and Python 3.11; ``tests/stripe_api/test_transport.py``
fails when one of them moves.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.util.wait import wait_for_read

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: A page of 100 sessions with everything expanded is below one megabyte.
MAX_BODY_BYTES = 32 * 1024 * 1024
#: Of a whole response as it arrives: compressed, with its headers.
MAX_ANSWER_BYTES = MAX_BODY_BYTES + 1024 * 1024

#: How often a request that waits for bytes looks whether it is to stop, in seconds.
LOOK_EVERY = 0.3

_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


@contextmanager
def stopped_by(stop: threading.Event | None) -> Iterator[None]:
    """Let the requests of this block, in this thread, end soon after ``stop`` is set, whatever the server does."""
    token = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(token)


class BoundedSession(requests.Session):
    """
    A session whose answers cannot go on forever, and that neither follows nor reads a redirect.

    Plain http goes through no proxy, whatever the environment says: it would get the key in clear.
    """

    def __init__(self) -> None:
        super().__init__()
        # An unasked-for encoding could be a small response that unpacks to a huge one.
        self.headers["Accept-Encoding"] = "gzip"
        self.mount("https://", _BoundedAdapter())
        self.mount("http://", _DirectAdapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Know none; ``allow_redirects=False`` would still read the whole body of a redirect and parse its target."""


class _BoundedAdapter(HTTPAdapter):
    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _bounded(pool.ConnectionCls)
        return pool


class _DirectAdapter(_BoundedAdapter):
    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        return super().send(request, *args, **(kwargs | {"proxies": None}))


@cache
def _bounded(connection: type[HTTPConnection]) -> type[HTTPConnection]:
    if connection.response_class is _BoundedResponse:
        return connection
    return type(connection.__name__, (connection,), {"response_class": _BoundedResponse})


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_BoundedStream(self.fp.detach(), sock))

    def begin(self) -> None:
        super().begin()
        # What is left over where headers are malformed, urllib3 would log, with the URL and its query.
        self.headers.defects.clear()
        self.headers.set_payload("")


class _BoundedStream(io.RawIOBase):
    """A socket's stream that ends: the socket's own timeout starts again with every byte, and knows no ``stop``."""

    def __init__(self, stream: io.RawIOBase, sock: socket.socket) -> None:
        self._stream = stream
        self._sock = sock
        self._stop = _stop.get()
        self._timeout = sock.gettimeout() or float("inf")
        self._deadline = time.monotonic() + self._timeout
        self._bytes_left = MAX_ANSWER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if time.monotonic() > self._deadline:
            raise TimeoutError(f"the response was not complete after {self._timeout:g} s")
        if self._stop:
            self._wait_for_bytes(self._stop)
        count = self._stream.readinto(buffer)
        self._bytes_left -= count or 0
        if self._bytes_left < 0:
            raise OSError("the response has no end")
        return count

    def _wait_for_bytes(self, stop: threading.Event) -> None:
        timed_out_at = time.monotonic() + self._timeout
        while not stop.is_set():
            # TLS may have decrypted more than was read; then the socket itself has nothing to show.
            if hasattr(self._sock, "pending") and self._sock.pending():
                return
            if wait_for_read(self._sock, min(LOOK_EVERY, self._timeout)):
                return
            if time.monotonic() >= timed_out_at:
                raise TimeoutError("timed out")
        raise OSError("the request was stopped")

    def close(self) -> None:
        self._stream.close()
        super().close()

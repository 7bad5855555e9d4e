"""A server that means harm, or is broken beyond Stripe's ways: every answer of its has a bounded and clear end."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_stripe_identity.stripe_api import StripeAPIConnectionError, StripeAPIError, StripeError
from airflow_provider_stripe_identity.stripe_api.client import MAX_BODY_BYTES, StripeIdentityClient
from airflow_provider_stripe_identity.stripe_api.pages import list_page

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY_LIST = b'{"object": "list", "data": [], "has_more": false}'
MEGABYTE = b" " * 2**20

Answer = Iterable[bytes]


class HostileServer:
    """Answers every request with the same bytes, perhaps without end, then closes the connection."""

    def __init__(self) -> None:
        self.answer: Callable[[], Answer] = lambda: [b""]
        #: Seconds between two pieces of an answer.
        self.pause = 0.0
        self._stopping = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as request:
            try:
                while request.readline() not in (b"\r\n", b""):
                    pass
                for piece in self.answer():
                    connection.sendall(piece)
                    if self._stopping.wait(self.pause):
                        return
            except OSError:
                return  # the client has had enough


@pytest.fixture(scope="module")
def hostile() -> Iterator[HostileServer]:
    server = HostileServer()
    yield server
    server.stop()


@pytest.fixture
def ask(hostile: HostileServer) -> Callable[..., dict]:
    """Return a function that asks for a list, once, and gets the answer given."""

    def ask(*pieces: bytes, endless: bytes = b"", pause: float = 0.0, timeout: float = 10) -> dict:
        hostile.answer = lambda: itertools.chain(pieces, itertools.repeat(endless) if endless else ())
        hostile.pause = pause
        client = StripeIdentityClient("sk_test_x", base_url=hostile.url, timeout=timeout, max_retries=0)
        return list_page(client, "/v1/identity/verification_sessions", ())

    return ask


def sized(body: bytes, *headers: bytes) -> bytes:
    lines = [b"Content-Length: %d" % len(body), *headers]
    return OK + b"\r\n".join([*lines, b"", body])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

TOO_LARGE = {
    "100 MB": ([OK + b"Content-Length: 104857600\r\n\r\n", *[MEGABYTE] * 100], b""),
    "without end or length": ([OK + b"\r\n"], MEGABYTE),
    "chunks without end": ([CHUNKED], chunk(MEGABYTE)),
    "a chunk of a negative size": ([CHUNKED, b"-1\r\n"], MEGABYTE),
    "a chunk extension without end": ([CHUNKED, b"1;"], MEGABYTE),
    "trailers without end": ([CHUNKED, chunk(EMPTY_LIST), b"0\r\n"], b"Trailer: x\r\n" * 10_000),
    "a redirect without end": ([b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"], MEGABYTE),
    "an error without end": ([b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], MEGABYTE),
    "a header line without end": ([OK], MEGABYTE),
    "header lines without end": ([OK], b"X-Header: x\r\n" * 10_000),
    "informational answers without end": ([], b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000),
    "a status line without end": ([], MEGABYTE),
    "a gzip bomb": ([sized(gzip.compress(b" " * 200 * 2**20, compresslevel=9), b"Content-Encoding: gzip")], b""),
    "gzip in gzip": (
        [sized(gzip.compress(gzip.compress(b" " * 200 * 2**20)), b"Content-Encoding: gzip, gzip")],
        b"",
    ),
    "lists in lists": ([sized(b"[" * 10_000_000)], b""),
}


@pytest.mark.parametrize(("pieces", "endless"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_an_answer_that_is_too_large_is_given_up(ask, pieces, endless):
    tracemalloc.start()
    try:
        with pytest.raises(StripeError) as raised:
            ask(*pieces, endless=endless)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(str(raised.value), peak // 2**20)
    assert peak < 2.5 * MAX_BODY_BYTES
    assert len(str(raised.value)) < 500


SLOW = {
    "a status line": ([], b"H"),
    "a header line": ([OK + b"X: "], b"x"),
    "header lines": ([OK], b"X: x\r\n"),
    "informational answers": ([], b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body": ([OK + b"Content-Length: 1000000\r\n\r\n"], b" "),
    "a body without a length": ([OK + b"\r\n"], b" "),
    "chunks": ([CHUNKED], chunk(b" ")),
    "one chunk": ([CHUNKED + b"10000\r\n"], b" "),
    "trailers": ([CHUNKED, chunk(EMPTY_LIST), b"0\r\n"], b"X: x\r\n"),
    "a compressed body": ([OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"")[:10]], b"\x00"),
    "a redirect": ([b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 99999\r\n\r\n"], b" "),
}


@pytest.mark.parametrize(("pieces", "endless"), SLOW.values(), ids=SLOW)
@pytest.mark.timeout(15)
def test_what_drips_is_given_up(ask, pieces, endless):
    """Every byte is in time, so a timeout of the socket's alone would wait for ever."""
    with pytest.raises(StripeError) as raised:
        ask(*pieces, endless=endless, pause=0.05, timeout=0.3)
    print(str(raised.value))

"""HTTP answers that end: bounded in time and size where the bytes arrive, so in headers and bodies alike."""

from __future__ import annotations

import http.client
import io
import socket
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: A page of 100 sessions with everything expanded is below one megabyte.
MAX_BODY_BYTES = 32 * 1024 * 1024
#: Of a whole answer as it arrives: compressed, with its headers.
MAX_ANSWER_BYTES = MAX_BODY_BYTES + 1024 * 1024


class BoundedSession(requests.Session):
    """A session whose answers cannot go on for ever, and that neither follows nor reads a redirect."""

    def __init__(self) -> None:
        super().__init__()
        # An unasked-for encoding could be a small answer that unpacks to a huge one.
        self.headers["Accept-Encoding"] = "gzip"
        self.mount("https://", _BoundedAdapter())
        self.mount("http://", _BoundedAdapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Know none; ``allow_redirects=False`` would still read the whole body of a redirect and parse its target."""


class _BoundedAdapter(HTTPAdapter):
    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _bounded(pool.ConnectionCls)
        return pool


@cache
def _bounded(connection: type[HTTPConnection]) -> type[HTTPConnection]:
    if connection.response_class is _BoundedResponse:
        return connection
    return type(connection.__name__, (connection,), {"response_class": _BoundedResponse})


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_BoundedStream(self.fp.detach(), sock.gettimeout()))

    def begin(self) -> None:
        super().begin()
        # What is left over where headers are malformed, urllib3 would log, with the URL and its query.
        self.headers.defects.clear()
        self.headers.set_payload("")


class _BoundedStream(io.RawIOBase):
    """A socket's stream; the socket's own timeout begins anew with every byte."""

    def __init__(self, stream: io.RawIOBase, timeout: float | None) -> None:
        self._stream = stream
        self._timeout = timeout or float("inf")
        self._deadline = time.monotonic() + self._timeout
        self._bytes_left = MAX_ANSWER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if time.monotonic() > self._deadline:
            raise TimeoutError(f"the answer was not complete after {self._timeout:g} s")
        count = self._stream.readinto(buffer)
        self._bytes_left -= count or 0
        if self._bytes_left < 0:
            raise OSError("the answer has no end")
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()

"""The emulator as a server: HTTP around `api`, limits and faults."""

from __future__ import annotations

import copy
import gzip
import json
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from email.utils import formatdate
from http.client import responses
from http.server import BaseHTTPRequestHandler
from itertools import count
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from .api import OWN_ACCOUNT, Api, Request, Response, created_bounds, session_filters
from .faults import Fault, FaultPlan, rate_limited
from .objects import Json
from .store import Store, missing


@dataclass
class RecordedRequest:
    """
    A request that the server received.

    :param method: GET, POST or any other
    :param path: the path, without the query
    :param query: names and values of the query, in their order
    :param headers: the headers; reading one ignores its case
    :param status: the HTTP status of the response, None as long as there is none, and after a reset
    :param time: `time.monotonic()` of its arrival
    """

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Message
    status: int | None
    time: float


class StripeIdentityServer:
    """
    A Stripe Identity API of your own, on a local port: stateful, with a population of any size.

    Use it as a context manager, or call `start()` and `stop()`. Its state survives a restart.

    :param api_key: the secret key that it accepts
    :param host: the address to listen on
    :param port: the port, 0 for any that is free
    :param path_prefix: prefix of all paths, such as `/stripe`
    :param gateway: whether it needs no key, as a gateway that adds the credentials itself
    :param livemode: whether its objects are live ones
    :param latency: latency of every response, in seconds
    :param rate_limit: requests per second that each endpoint accepts
    :param concurrency_limit: requests at once that each endpoint accepts
    :param clock: returns the time in epoch seconds: when changes happen, which events are kept, and `Date`
    """

    def __init__(
        self,
        *,
        api_key: str = "sk_test_emulator",
        host: str = "127.0.0.1",
        port: int = 0,
        path_prefix: str = "",
        gateway: bool = False,
        livemode: bool = False,
        latency: float = 0.0,
        rate_limit: int | None = None,
        concurrency_limit: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.api_key, self.host, self.port = api_key, host, port
        self.latency, self.rate_limit, self.concurrency_limit = latency, rate_limit, concurrency_limit
        #: Whether to compress for clients that accept it
        self.gzip = True
        #: Called with each request before it is answered, in its thread: for something that happens meanwhile
        self.before_answer: Callable[[RecordedRequest], object] | None = None
        #: Called with each response before it is sent; what it returns is sent instead, if it is not None
        self.after_answer: Callable[[RecordedRequest, Response], Response | None] | None = None
        #: The last requests, oldest first
        self.requests: deque[RecordedRequest] = deque(maxlen=100_000)
        self._api = Api(api_key=api_key, gateway=gateway, path_prefix=path_prefix, livemode=livemode, clock=clock)
        self._clock = clock
        self._faults = FaultPlan()
        self._limits = _Limits()
        self._stopping = threading.Event()
        self._http: _HTTPServer | None = None
        #: Permissions by key, to be changed: "verification_sessions", "events", "account", "connected_accounts"
        self.api_keys = self._api.api_keys
        self.inject, self.fault_every, self.clear_faults = self._faults.inject, self._faults.every, self._faults.clear

    def start(self) -> Self:
        """Listen and answer, in the background."""
        self._stopping.clear()
        self._http = _HTTPServer((self.host, self.port), self)
        self.port = self._http.server_address[1]
        self._api.pages = self.url
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening and close all connections."""
        if self._http:
            self._stopping.set()
            self._http.shutdown()
            self._http.server_close()
            self._http.close_connections()
            self._http = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://{self.host}:{self.port}{self._api.path_prefix}"

    def airflow_connection(self) -> str:
        """Return the value of an `AIRFLOW_CONN_…` variable that leads here."""
        connection = {"conn_type": "stripe_identity", "host": self.url}
        if not self._api.gateway:
            connection["password"] = self.api_key
        return json.dumps(connection)

    # The accounts

    def connect_account(self, account: str, *, created: datetime | float | None = None) -> None:
        """
        Connect an account, which then has sessions and events of its own. Those named to `populate` and
        `create_session` are connected by that.

        :param account: its id
        :param created: when it was connected, by default now: `GET /v1/accounts` lists the newest first
        """
        store = self._api.store(account)
        if created is not None:
            store.created = _epoch(created)

    def revoke_account(self, account: str) -> None:
        """
        Let a connected account withdraw the platform's access: it is listed no more, and refused with 403.

        :param account: its id
        """
        self._api.revoke(account)

    # The sessions

    def populate(
        self, count: int, start: datetime | float, end: datetime | float, *, seed: int = 0, account: str | None = None
    ) -> None:
        """
        Add generated sessions. They take no memory.

        :param count: how many
        :param start: when the first may be created: epoch seconds or an aware datetime
        :param end: when the last is created, exclusive
        :param seed: another seed, another population
        :param account: an account, connected from now on; None for the key's own
        """
        self._api.store(account).populate(count, _epoch(start), _epoch(end), seed=seed)

    def create_session(
        self,
        *,
        client_reference_id: str | None = None,
        status: str = "requires_input",
        created: datetime | float | None = None,
        account: str | None = None,
        **fields: Any,
    ) -> Json:
        """
        Add a session.

        :param client_reference_id: whose it is
        :param status: its status, with all that belongs to it
        :param created: when, by default now
        :param account: a connected account, None for the key's own
        :param fields: any other field; `verified_outputs` shows when it is expanded
        """
        second = None if created is None else _epoch(created)
        store = self._api.store(account)
        return copy.deepcopy(
            store.create(client_reference_id=client_reference_id, status=status, created=second, **fields)
        )

    def update_session(self, session_id: str, *, account: str | None = None, **fields: Any) -> Json:
        """
        Set fields of a session. A new status brings its consequences and its event.

        :param session_id: its id
        :param account: where it is, None to look for it
        :param fields: any fields but `id`, `object` and `created`
        """
        return copy.deepcopy(self._store_of(session_id, account).update(session_id, **fields))

    def process(self, session_id: str, *, event_created: datetime | float | None = None, **fields: Any) -> Json:
        """
        Let Stripe start to check what the person has submitted.

        :param session_id: its id
        :param event_created: when the event says that it happened, by default now. In the past: an event that is
            listed late. The other methods have it too
        :param fields: other fields to set
        """
        return self._transition(session_id, "processing", event_created=event_created, **fields)

    def verify(self, session_id: str, *, event_created: datetime | float | None = None, **fields: Any) -> Json:
        """
        Let the check succeed.

        :param session_id: its id
        :param event_created: when the event says that it happened, by default now
        :param fields: other fields to set, such as `verified_outputs`
        """
        return self._transition(session_id, "verified", event_created=event_created, **fields)

    def require_input(
        self,
        session_id: str,
        *,
        code: str = "document_unverified_other",
        event_created: datetime | float | None = None,
        **fields: Any,
    ) -> Json:
        """
        Let the check fail.

        :param session_id: its id
        :param code: the code of its last error
        :param event_created: when the event says that it happened, by default now
        :param fields: other fields to set
        """
        return self._transition(session_id, "requires_input", code=code, event_created=event_created, **fields)

    def cancel(self, session_id: str, *, event_created: datetime | float | None = None, **fields: Any) -> Json:
        """
        Cancel a session.

        :param session_id: its id
        :param event_created: when the event says that it happened, by default now
        :param fields: other fields to set
        """
        return self._transition(session_id, "canceled", event_created=event_created, **fields)

    def redact(self, session_id: str, *, status: str = "redacted") -> Json:
        """
        Erase what a session knows about a person; one that waits for input is canceled first.

        :param session_id: its id
        :param status: "processing" starts the redaction only
        """
        return copy.deepcopy(self._store_of(session_id).redact(session_id, status=status))

    def sessions(self, *, account: str | None = None, **filters: Any) -> Iterator[Json]:
        """
        Yield the sessions as the list endpoint should return them, newest first. Read them only.

        :param account: a connected account, None for the key's own
        :param filters: the endpoint's filters; `created` is a second or a mapping such as `{"gte": …}`
        """
        if unknown := filters.keys() - {
            "client_reference_id",
            "created",
            "related_customer",
            "related_customer_account",
            "status",
        }:
            raise TypeError(f"no filters of the endpoint: {', '.join(sorted(unknown))}")
        store = self._api.stores[account or OWN_ACCOUNT]
        return store.sessions(session_filters(filters), *created_bounds(filters))

    def _transition(
        self, session_id: str, status: str, *, event_created: datetime | float | None = None, **fields: Any
    ) -> Json:
        second = None if event_created is None else _epoch(event_created)
        changed = self._store_of(session_id).transition(session_id, status, event_created=second, **fields)
        return copy.deepcopy(changed)

    def _store_of(self, session_id: str, account: str | None = None) -> Store:
        for store in [self._api.stores[account]] if account else list(self._api.stores.values()):
            if store.find("session", session_id):
                return store
        raise missing("verification_session", session_id)

    # The requests

    @contextmanager
    def _answered(self, request: Request, fault: Fault | None) -> Iterator[Response]:
        """Give the response; it counts as a request at once until it was sent."""
        if fault and fault.response:
            yield fault.response
            return
        if fault and fault.kind == "stuck_cursor":
            query = [(k, v) for k, v in request.query if k not in ("starting_after", "ending_before")]
            request = Request(request.method, request.path, query, request.headers, request.form)
        endpoint = self._api.endpoint(request)
        if refused := self._limits.enter(endpoint, self.rate_limit, self.concurrency_limit):
            yield rate_limited(refused)
            return
        try:
            if fault and fault.kind == "delay":
                self._wait(fault.seconds)
            response = self._api.answer(request)
            if fault and fault.kind == "empty_page" and response.body.get("object") == "list":
                response = Response(response.status, response.body | {"data": [], "has_more": True}, response.headers)
            yield response
        finally:
            self._limits.leave(endpoint)

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._stopping.wait(seconds)


class _Limits:
    """How many requests each endpoint has accepted within the last second, and how many it works on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accepted: defaultdict[str | None, deque[float]] = defaultdict(deque)
        self._running: Counter[str | None] = Counter()

    def enter(self, endpoint: str | None, rate: int | None, concurrency: int | None) -> str | None:
        """Return the limit that a request exceeds; None if it is accepted, `leave` after it then."""
        with self._lock:
            now = time.monotonic()
            accepted = self._accepted[endpoint]
            while accepted and accepted[0] <= now - 1:
                accepted.popleft()
            if concurrency is not None and self._running[endpoint] >= concurrency:
                return "endpoint-concurrency"
            if rate is not None and len(accepted) >= rate:
                return "endpoint-rate"
            accepted.append(now)
            self._running[endpoint] += 1
            return None

    def leave(self, endpoint: str | None) -> None:
        with self._lock:
            self._running[endpoint] -= 1


class _HTTPServer(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: StripeIdentityServer) -> None:
        self.owner = owner
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):  # closed meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is no error
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HTTPServer
    connection: socket.socket
    _request_ids = count(1)

    def do_GET(self) -> None:
        owner = self.server.owner
        arrived = time.monotonic()
        url = urlsplit(self.path)
        query = parse_qsl(url.query, keep_blank_values=True)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        form = parse_qsl(body, keep_blank_values=True)
        fault = owner._faults.next()

        # At once: a client that gives up on a slow answer has sent a request all the same.
        recorded = RecordedRequest(self.command, url.path, query, self.headers, None, arrived)
        owner.requests.append(recorded)
        if owner.before_answer:
            owner.before_answer(recorded)
        if fault and fault.kind == "reset":
            self._reset()
            return
        with owner._answered(Request(self.command, url.path, query, self.headers, form), fault) as response:
            if owner.after_answer:
                response = owner.after_answer(recorded, response) or response
            headers, content = self._encoded(response)
            # What it takes to make a page is a part of the latency: else many at once would take longer than one.
            owner._wait(arrived + owner.latency - time.monotonic())
            recorded.status = response.status
            self._send(response.status, headers, content, fault)

    # Stripe answers those that no endpoint has with its own JSON.
    do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815

    def _encoded(self, response: Response) -> tuple[dict[str, str | None], bytes]:
        content_type, body = response.content()
        headers: dict[str, str | None] = {"Content-Type": content_type}
        if self.server.owner.gzip and "gzip" in self.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=1)
        return headers | {"Content-Length": str(len(body)), **response.headers}, body

    def _send(self, status: int, headers: dict[str, str | None], body: bytes, fault: Fault | None) -> None:
        headers = {
            "Date": formatdate(int(self.server.owner._clock()), usegmt=True),
            "Request-Id": f"req_{next(self._request_ids):014x}",
            **headers,
        }
        lines = [f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if self.command == "HEAD":
            body = b""
        if fault and fault.kind == "cut_short":
            self.connection.sendall(head + body[: len(body) // 2])
            self.close_connection = True
        elif fault and fault.kind == "drip":
            self.connection.sendall(head)
            pieces = 20
            step = len(body) // pieces + 1
            for at in range(0, len(body), step):
                self.server.owner._wait(fault.seconds / pieces)
                self.connection.sendall(body[at : at + step])
        else:
            self.connection.sendall(head + body)

    def _reset(self) -> None:
        self.close_connection = True
        # Without lingering, closing a connection resets it.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def _epoch(moment: datetime | float) -> int:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError(f"a datetime needs a time zone: {moment!r}")
        return int(moment.timestamp())
    return int(moment)

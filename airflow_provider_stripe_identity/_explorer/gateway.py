"""The gateway: one request to Stripe with a connection's credentials for one of a caller who has none."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_stripe_identity._explorer import airflow_side
from airflow_provider_stripe_identity._explorer.answers import Answers, error_answer, refusal
from airflow_provider_stripe_identity._explorer.clients import Clients
from airflow_provider_stripe_identity._explorer.queries import (
    EVENTS_PARAMETERS,
    LIST_PARAMETERS,
    events_query,
    list_query,
    read_query,
)
from airflow_provider_stripe_identity._explorer.snippets import PROVIDED_DETAILS
from airflow_provider_stripe_identity._stripe_api.errors import (
    StripeAPIConnectionError,
    StripeError,
    StripeRateLimitError,
)
from airflow_provider_stripe_identity._stripe_api.pages import (
    EVENTS,
    VERIFICATION_SESSIONS,
    malformed,
    not_asked_for,
    verification_session_path,
)
from airflow_provider_stripe_identity._stripe_api.parameters import Query, checked_expand, from_the_session_on

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient

log = logging.getLogger(__name__)

#: Seconds; somebody waits in front of the page.
MAX_TIMEOUT = 10.0
#: Requests under way at once: of one connection, and of one process of the api-server.
MAX_AT_ONCE_OF_CONNECTION = 4
MAX_AT_ONCE = 12
#: Threads for what is asked of Airflow before: the permission, and entries about calls that were refused.
AT_ONCE_OF_AIRFLOW = 2
#: Seconds after which a caller who was turned away may come again.
RETRY_AFTER = 5
#: A connection's rate limit may keep a call waiting for as many seconds.
MAX_WAIT = 2.0


class Answer(NamedTuple):
    """What the caller gets."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


#: In Airflow's own words.
FORBIDDEN = Answer(403, {"detail": "Forbidden"})


class Call(NamedTuple):
    """One request of a caller, checked."""

    path: str
    query: Query
    #: Top-level fields asked for by name.
    expand: list[str]
    malformed: Callable[[dict[str, Any]], str | None]
    shape: Callable[[Answers, dict[str, Any]], dict[str, Any]]
    #: Names of the parameters, for the audit log.
    parameters: list[str]


def list_sessions(query: Query) -> Call:
    """
    Read a request for a page of sessions.

    :raises ValueError: naming the parameter
    """
    parameters = read_query(query, LIST_PARAMETERS)
    asked = [pair for pair in list_query(parameters) if pair != ("expand[]", PROVIDED_DETAILS)]
    return Call(
        VERIFICATION_SESSIONS,
        asked,
        from_the_session_on(parameters.get("expand", [])),
        partial(_no_page, VERIFICATION_SESSIONS, asked),
        Answers.sessions,
        sorted(parameters),
    )


def get_session(session_id: str, query: Query) -> Call:
    """
    Read a request for one session.

    :raises ValueError: naming the parameter
    """
    path = verification_session_path(session_id)
    expand = list(checked_expand(read_query(query, ("expand",)).get("expand", [])))

    def problem(answer: dict[str, Any]) -> str | None:
        if answer.get("id") != session_id:
            return "is not the session asked for"
        return malformed(VERIFICATION_SESSIONS, {"object": "list", "data": [answer], "has_more": False})

    return Call(
        path,
        [("expand[]", field) for field in expand if field != "provided_details"],
        expand,
        problem,
        Answers.session,
        ["expand"] if expand else [],
    )


def list_events(query: Query) -> Call:
    """
    Read a request for a page of events of Identity.

    :raises ValueError: naming the parameter
    """
    parameters = read_query(query, EVENTS_PARAMETERS)
    asked = events_query(parameters)
    return Call(EVENTS, asked, [], partial(_no_page, EVENTS, asked), Answers.events, sorted(parameters))


def _no_page(path: str, query: Query, page: dict[str, Any]) -> str | None:
    return malformed(path, page) or not_asked_for(query, page["data"])


class Gateway:
    """
    Answers calls in threads of its own, a bounded number at once.

    A Stripe or a secrets backend that hangs keeps these threads, and nothing else of the api-server, busy. Neither does
    a database that is slow to say who may do what: the threads that ask it are others.
    """

    def __init__(self) -> None:
        # As many as there may be calls: none waits for a thread.
        self._threads = ThreadPoolExecutor(MAX_AT_ONCE, thread_name_prefix="stripe-explorer")
        self._airflow_threads = ThreadPoolExecutor(AT_ONCE_OF_AIRFLOW, thread_name_prefix="stripe-explorer-airflow")
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._met_busy: set[tuple[str, str]] = set()
        self._busy_until = 0.0
        self._clients = Clients(
            {"max_retries": 0, "max_concurrency": MAX_AT_ONCE_OF_CONNECTION, "timeout": MAX_TIMEOUT}
        )

    async def answer(self, user: BaseUser, connection_id: str, path: str, read: Callable[[], Call]) -> Answer:
        """
        Answer a caller who is logged in.

        :param path: Stripe's, for the audit log
        :param read: reads and checks the request
        """
        if not await self.may_use(user, connection_id, path):
            return FORBIDDEN
        if not self._enter(connection_id):
            if self._is_first_of_many(user.get_name(), connection_id):
                await self._in_airflow(_record_refusal, user, connection_id, path, 503)
            return _busy("Too many requests of this Airflow are waiting for Stripe", RETRY_AFTER)
        work = partial(self._answer_and_leave, user, connection_id, path, read)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def may_use(self, user: BaseUser, connection_id: str, path: str) -> bool:
        """Tell whether a user may use the connection, whether or not it exists; a refusal is recorded."""
        if await self._in_airflow(airflow_side.may_use, user, connection_id):
            return True
        await self._in_airflow(_record_refusal, user, connection_id, path, 403)
        return False

    def _is_first_of_many(self, user: str, connection_id: str) -> bool:
        """Tell whether a user meets a busy connection for the first time in a while: a loop must not fill the log."""
        if time.monotonic() >= self._busy_until:
            self._busy_until = time.monotonic() + RETRY_AFTER
            self._met_busy.clear()
        is_first = (user, connection_id) not in self._met_busy
        self._met_busy.add((user, connection_id))
        return is_first

    async def _in_airflow(self, function: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._airflow_threads, function, *arguments)

    def _enter(self, connection_id: str) -> bool:
        with self._lock:
            free = self._running.total() < MAX_AT_ONCE and self._running[connection_id] < MAX_AT_ONCE_OF_CONNECTION
            self._running[connection_id] += free
            return free

    def _answer_and_leave(self, user: BaseUser, connection_id: str, path: str, read: Callable[[], Call]) -> Answer:
        try:
            return self._answer(user, connection_id, path, read)
        finally:
            with self._lock:
                self._running[connection_id] -= 1
                self._running += Counter()  # forgets who has none under way

    def _answer(self, user: BaseUser, connection_id: str, path: str, read: Callable[[], Call]) -> Answer:
        try:
            call = read()
            client, answers = self._connected(connection_id, call)
        except _RefusedError as error:
            _record_refusal(user, connection_id, path, error.answer.status)
            return error.answer
        except ValueError as error:
            _record_refusal(user, connection_id, path, 400)
            return Answer(400, refusal(str(error), param=str(error).split(" ")[0]))
        # Before anything is read: what cannot be recorded does not happen.
        by_name = [field.split(".")[0] for field in call.expand]
        airflow_side.record(user.get_name(), connection_id, path=path, parameters=call.parameters, by_name=by_name)
        return _ask(client, call, answers)

    def _connected(self, connection_id: str, call: Call) -> tuple[StripeIdentityClient, Answers]:
        """Return the connection's client, and what shapes its responses."""
        try:
            connection = airflow_side.find_connection(connection_id)
            if connection is None:
                # In Airflow's own words.
                missing = {"detail": f"The Connection with connection_id: `{connection_id}` was not found"}
                raise _RefusedError(Answer(404, missing))
            client = self._clients.of(connection)
        except ValueError as error:
            raise _RefusedError(Answer(400, refusal(str(error), hint="Correct the connection in Airflow"))) from None
        except airflow_side.UnreadableConnectionError as error:
            raise _RefusedError(Answer(500, refusal(str(error), kind="api_error", hint=error.hint))) from None
        if (wait := client.seconds_until_turn()) > MAX_WAIT:
            raise _RefusedError(_busy("The connection's limit of requests per second is reached", math.ceil(wait)))
        return client, Answers(call.expand, api_key=connection.password)


class _RefusedError(Exception):
    """Nothing is asked of Stripe."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def _busy(message: str, retry_after: int) -> Answer:
    return Answer(503, refusal(message, kind="api_error"), {"Retry-After": str(retry_after)})


def _record_refusal(user: BaseUser, connection_id: str, path: str, status: int) -> None:
    """Record a call that is refused anyhow: a database that cannot take the entry does not change the response."""
    try:
        airflow_side.record_refusal(user.get_name(), connection_id, path=path, status=status)
    except Exception:
        log.exception("A call of the Stripe Identity gateway that was refused is missing in the audit log")


def _ask(client: StripeIdentityClient, call: Call, answers: Answers) -> Answer:
    account = client.headers.get("Stripe-Account")
    # Stripe says so too: the page leads to this account's Dashboard.
    headers = {"Stripe-Account": account} if account else {}

    def received(of_stripe: Mapping[str, str]) -> None:
        if request_id := of_stripe.get("Request-Id"):
            headers["Request-Id"] = answers.text(request_id)

    try:
        body = client.get(call.path, call.query, malformed=call.malformed, received=received)
        return Answer(200, call.shape(answers, body), headers)
    except StripeError as error:
        if error.request_id:
            headers["Request-Id"] = error.request_id
        if isinstance(error, StripeRateLimitError):
            headers["Retry-After"] = str(round(error.retry_after or RETRY_AFTER))
        # A redirect is Stripe's response as little as a 200 that is no list.
        known = error.status is not None and error.status >= 400
        status = error.status if known and error.status else 504 if _timed_out(error) else 502
        return Answer(status, answers.any(error_answer(error)), headers)
    except RecursionError:
        return Answer(502, refusal("Stripe's response is nested too deeply", kind="api_error"), headers)


def _timed_out(error: StripeError) -> bool:
    return isinstance(error, StripeAPIConnectionError) and "imeout" in str(error)

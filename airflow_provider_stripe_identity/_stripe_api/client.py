"""One request to Stripe: authenticated, bounded in time and size, tried again where that can help."""

from __future__ import annotations

import contextlib
import copy
import ipaddress
import logging
import re
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests
import tenacity
from requests.auth import AuthBase

from airflow_provider_stripe_identity._stripe_api.clock import StripeClock
from airflow_provider_stripe_identity._stripe_api.errors import (
    AnswerTooLargeError,
    StripeAPIConnectionError,
    StripeAPIError,
    StripeError,
    error_from_response,
    in_one_line,
)
from airflow_provider_stripe_identity._stripe_api.outage import DEFAULT_MAX_OUTAGE, Outage
from airflow_provider_stripe_identity._stripe_api.parameters import Query
from airflow_provider_stripe_identity._stripe_api.rate_limiter import (
    DEFAULT_MAX_CONCURRENCY,
    DEFAULT_MAX_REQUESTS_PER_SECOND,
    RateLimiter,
)
from airflow_provider_stripe_identity._stripe_api.shared_turns import SharedTurns
from airflow_provider_stripe_identity._stripe_api.transport import MAX_BODY_BYTES, BoundedSession, stopped_by

log = logging.getLogger(__name__)

DEFAULT_BASE_URL = "https://api.stripe.com"
PACKAGE = "airflow-provider-stripe-identity"
#: The Stripe API version this package was written and tested against.
DEFAULT_API_VERSION = "2026-07-29.dahlia"
DEFAULT_TIMEOUT = 60.0
DEFAULT_MAX_RETRIES = 6

CONNECT_TIMEOUT = 10.0
#: Back-off before the first retry, in seconds; it doubles with every further one, with full jitter.
FIRST_BACKOFF = 0.5
MAX_BACKOFF = 30.0
#: A server that asks for a longer pause than this is asked again sooner.
MAX_RETRY_AFTER = 60.0
#: No retry starts later than this after the first attempt.
MAX_TOTAL_SECONDS = 300.0


class StripeAuth(AuthBase):
    """
    Sends the API key as a bearer token; without a key it sends nothing, and keeps ``~/.netrc`` out.

    ``requests`` looks into ``~/.netrc`` only where a request has no ``auth`` of its own.
    """

    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header to the request that is about to be sent."""
        if self._api_key:
            request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


class StripeIdentityClient:
    """
    Reads from Stripe's API. Safe to use from several threads: each has its own pooled session.

    :param api_key: secret or restricted key (``sk_…``, ``rk_…``, ``sk_org_…``); None behind a gateway that
        adds the credentials itself
    :param base_url: where ``/v1`` begins, with the gateway's path prefix if there is one
    :param api_version: ``Stripe-Version`` header (https://docs.stripe.com/api/versioning)
    :param stripe_account: ``Stripe-Account`` header, a connected account
    :param stripe_context: ``Stripe-Context`` header, the account an organization key acts on
    :param timeout: read timeout of one request, in seconds; a whole response may take twice that
    :param max_retries: how often one request is tried again; an outage that is waited out counts as one try
    :param max_outage: in a listing, wait for Stripe that long, in seconds; 0, or ``max_retries`` 0, waits for no outage
    :param max_requests_per_second: requests started per second, of all threads together, and of all processes of this
        machine with the same key, host and account
    :param max_concurrency: requests under way at once, of all threads together
    :param counted: called with the name of each of ``counts`` as it grows by one
    :raises ValueError: naming the argument, for a key that cannot work or must not be sent to ``base_url``
    """

    def __init__(
        self,
        api_key: str | None,
        *,
        base_url: str = DEFAULT_BASE_URL,
        api_version: str = DEFAULT_API_VERSION,
        stripe_account: str | None = None,
        stripe_context: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
        max_outage: float = DEFAULT_MAX_OUTAGE,
        max_requests_per_second: float = DEFAULT_MAX_REQUESTS_PER_SECOND,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        counted: Callable[[str], None] = lambda _: None,
    ) -> None:
        _check_key(api_key, base_url, stripe_context)
        for name, value in {
            "api_version": api_version,
            "stripe_account": stripe_account,
            "stripe_context": stripe_context,
        }.items():
            if value not in (None, "") and not _is_header(value):
                raise ValueError(
                    f"{name} is sent as a header: it must be printable ASCII text without leading or trailing spaces"
                )
        _check_number("timeout", timeout, 0.01, 3600)
        _check_number("max_retries", max_retries, 0, 100, whole=True)
        _check_number("max_outage", max_outage, 0, 86400)
        _check_number("max_requests_per_second", max_requests_per_second, 0.001, 100_000)
        _check_number("max_concurrency", max_concurrency, 1, 100, whole=True)
        #: Where ``/v1`` begins.
        self.base_url = _checked_base_url(base_url, api_key)
        self.has_key = bool(api_key)
        self._auth = StripeAuth(api_key)
        #: What every request says besides its credentials.
        self.headers = {
            "Stripe-Version": api_version,
            "User-Agent": f"{PACKAGE}/{version(PACKAGE)}",
            "Accept": "application/json",
        }
        if stripe_account:
            self.headers["Stripe-Account"] = stripe_account
        if stripe_context:
            self.headers["Stripe-Context"] = stripe_context
        #: What the key says of itself: ``live mode``, ``test mode``, or None without a key.
        self.mode = next((f"{mode} mode" for mode in ("live", "test") if f"_{mode}_" in (api_key or "")), None)
        self._timeout = timeout
        self._max_retries = max_retries
        self.max_concurrency = max_concurrency
        self.clock = StripeClock(direct=urlsplit(self.base_url).hostname == urlsplit(DEFAULT_BASE_URL).hostname)
        shared = SharedTurns(api_key or "", self.base_url, stripe_account or "", stripe_context or "")
        self._rate_limiter = RateLimiter(max_requests_per_second, max_concurrency, shared)
        self._outage = Outage(max_outage)
        self._thread = threading.local()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        #: How many ``requests`` were sent, how many of them were ``retries``, and how many were ``rate_limited`` (429).
        self.counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._counted = counted

    def acting_on(self, stripe_account: str) -> StripeIdentityClient:
        """
        Return a client for another account.

        All else it shares with this one: kept-alive connections, rate, counts, clock, and whether Stripe is there.
        """
        other = copy.copy(self)
        other.headers = self.headers | {"Stripe-Account": stripe_account}
        return other

    def seconds_until_turn(self) -> float:
        """Return how long a request that came now would have to wait because of the rate."""
        return self._rate_limiter.seconds_until_turn()

    def get(
        self,
        path: str,
        query: Query = (),
        *,
        malformed: Callable[[dict[str, Any]], str | None] = lambda _: None,
        received: Callable[[Mapping[str, str]], None] = lambda _: None,
        patient: bool = False,
        stop: threading.Event | None = None,
    ) -> dict[str, Any]:
        """
        Send one GET, again where Stripe's rules allow it, and return the JSON object of the response.

        :param path: from ``/v1`` on
        :param query: names and values, encoded here
        :param malformed: looks at the object and says what is wrong with it; such a response counts as a failed
            attempt, since a proxy or an interrupted deployment may have made it
        :param received: called with the headers of every 200, before its body is judged
        :param patient: wait out an outage, together with all other patient requests of this client
        :param stop: ends the request, its pauses and its retries once it is set
        :raises StripeError: the last attempt's error
        """
        self._thread.attempts = 0
        never, given_up = threading.Event(), threading.Event()
        patient = patient and self._max_retries > 0 and self._outage.max_seconds > 0
        attempt = partial(self._attempt_through_outage, stop or never, given_up) if patient else self._take_turn
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, StripeError) and error.retryable),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(self._max_retries + 1),
                tenacity.stop_before_delay(MAX_TOTAL_SECONDS + (self._outage.max_seconds if patient else 0)),
                tenacity.stop_when_event_set(stop or never),
                tenacity.stop_when_event_set(given_up),
            ),
            wait=_wait,
            sleep=tenacity.sleep_using_event(stop) if stop else tenacity.sleep,
            before_sleep=_log_retry,
            reraise=True,
        )
        outages = self._outage.number
        with stopped_by(stop):
            answer: dict[str, Any] = retrying(attempt, path, query, malformed, received)
        if not patient:
            self._outage.answered(outages)
        return answer

    def _attempt_through_outage(
        self, stop: threading.Event, given_up: threading.Event, *request: Any
    ) -> dict[str, Any]:
        """
        Make one attempt, which lasts as long as the outage that it meets.

        One that meets a second outage has failed: what fails for this request alone is not tried again forever.
        """
        met = None
        while True:
            try:
                probe = self._outage.enter(stop)
            except StripeError:
                given_up.set()
                raise
            outages = self._outage.number
            try:
                # The rate limiter would halve the rate with every probe that gets a 429.
                answer = (self._attempt if probe else self._take_turn)(*request)
            except StripeError as error:
                number = self._outage.failed(error, probe=probe)
                if number is None and error.unavailable and met is not None:
                    given_up.set()
                if number is None or met not in (None, number):
                    raise
                met = number
            else:
                self._outage.answered(outages)
                return answer
            finally:
                if probe:
                    self._outage.probe_ended()

    def close(self) -> None:
        """Close the kept-alive connections of all threads; a request that is under way still gets its response."""
        for session in list(self._sessions):
            session.close()

    def _take_turn(self, *request: Any) -> dict[str, Any]:
        with self._rate_limiter.turn():
            return self._attempt(*request)

    def _count(self, what: str) -> None:
        with self._counting:
            self.counts[what] += 1
        self._counted(what)

    def _attempt(
        self,
        path: str,
        query: Query,
        malformed: Callable[[dict[str, Any]], str | None],
        received: Callable[[Mapping[str, str]], None],
    ) -> dict[str, Any]:
        request = f"GET {path}"
        self._count("requests")
        if self._thread.attempts:
            self._count("retries")
        self._thread.attempts += 1
        lost = None
        try:
            with self._session().get(
                self.base_url + path,
                params=query,
                headers=self.headers,
                timeout=(CONNECT_TIMEOUT, self._timeout),
                stream=True,
            ) as response:
                body = _read(request, response)
        except StripeError:
            raise
        except Exception as error:  # where chunks or headers are malformed, not only those of requests
            lost = _root_cause(error)
        if lost:
            # Raised out here, so that no traceback shows requests' own error: it holds the URL with its query.
            raise StripeAPIConnectionError(
                request,
                f"no complete response arrived: {lost}",
                hint="Check the network between the worker and the connection's host",
                retryable=True,
            )
        answer = _decode(body)
        if response.status_code == 429:
            self._count("rate_limited")
        if response.status_code != 200:
            raise error_from_response(request, response.status_code, response.headers, answer)
        self.clock.heard(response.headers.get("Date"))
        received(response.headers)
        problem = "is not a JSON object" if answer is None else malformed(answer)
        if answer is None or problem:
            raise StripeAPIError(
                request,
                f"the response {problem}",
                hint="A gateway or proxy on the way may have changed it; check the connection's host",
                status=200,
                request_id=response.headers.get("Request-Id"),
                retryable=True,
            )
        return answer

    def _session(self) -> requests.Session:
        """One session, so one kept-alive connection, a thread."""
        session: requests.Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = BoundedSession()
            self._sessions.add(session)
            session.auth = self._auth
        return session


def _read(request: str, response: requests.Response) -> bytes:
    """Read the decompressed body; gzip can expand a thousandfold, so it is bounded."""
    if response.headers.get("Content-Encoding", "gzip").lower() not in ("gzip", "identity"):
        raise StripeAPIConnectionError(
            request,
            "the response has a Content-Encoding that was not requested",
            hint="A gateway or proxy on the way may have done that; check the connection's host",
            retryable=True,
        )
    body = bytearray()
    for chunk in response.iter_content(64 * 1024):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise AnswerTooLargeError(
                request,
                f"the response is larger than {MAX_BODY_BYTES // 1024 // 1024} MiB",
                hint="Stripe sends no response of that size; check the connection's host",
            )
    return bytes(body)


def _check_key(api_key: str | None, base_url: str, stripe_context: str | None) -> None:
    if api_key is None:
        if base_url.startswith(DEFAULT_BASE_URL):
            raise ValueError("password: the API key is missing; only a gateway can do without")
        return
    # Never show the key, not even the part that is wrong.
    if api_key.startswith("pk_"):
        raise ValueError("password: a publishable key (pk_…) cannot read; use a secret or restricted key")
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key or not api_key:
        raise ValueError("password: the API key is empty, or contains a space, a line break or a non-ASCII character")
    if api_key.startswith("sk_org_") and not stripe_context:
        raise ValueError("stripe_context: an organization key (sk_org_…) needs the account to act on")


def _is_header(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and value == value.strip()


def _check_number(name: str, value: object, least: float, most: float, *, whole: bool = False) -> None:
    """Refuse what no socket, thread pool or clock can do, such as NaN, and what can only be a slip."""
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not number or not least <= value <= most:  # type: ignore[operator]
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name} must be {kind} from {least} to {most}, not {value!r:.40}")


def _checked_base_url(base_url: str, api_key: str | None) -> str:
    # Never show a part of it: a key may have been pasted into any.
    if re.search("[prs]k_(org_|live_|test_)", base_url):
        raise ValueError("host contains an API key, which belongs in the connection's password")
    if not base_url.isprintable() or " " in base_url:
        raise ValueError("host contains a space, a line break or a control character")
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("host must be a URL whose port, if it has one, is a number from 1 to 65535")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("host must be a URL such as https://api.stripe.com or https://gateway.example.com/stripe")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("host must be a plain URL: no user, password, query or fragment")
    try:
        requests.Request("GET", base_url).prepare()
        parts.hostname.encode("idna")
    except ValueError:
        raise ValueError("host is not a valid host name") from None
    if parts.scheme == "http" and api_key and not is_loopback(parts.hostname):
        raise ValueError("host: the API key is not sent over plain http; use https, or a gateway without a password")
    return base_url.rstrip("/")


def is_loopback(host: str) -> bool:
    """
    Tell whether a host is this machine itself.

    :param host: its name or address
    """
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _decode(body: bytes) -> dict[str, Any] | None:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _root_cause(error: BaseException) -> str:
    """What the operating system or the TLS library said, e.g. ``ConnectionResetError: [Errno 104] …``."""
    while nested := error.__cause__ or error.__context__:
        error = nested
    kind = type(error).__name__
    # All others may repeat a part of the response, or the URL with its query.
    from_the_system = isinstance(error, OSError) and not isinstance(error, requests.RequestException)
    return f"{kind}: {error}" if from_the_system else kind


def _wait(state: tenacity.RetryCallState) -> float:
    """Full jitter, and at least as long as the server asked for."""
    jitter = tenacity.wait_random_exponential(multiplier=FIRST_BACKOFF, max=MAX_BACKOFF)(state)
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, StripeError) else None
    return max(jitter, min(asked or 0.0, MAX_RETRY_AFTER))


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, StripeError) and state.next_action:
        log.warning(
            "%s - trying again in %.1f s (attempt %d failed)",
            in_one_line(error),
            state.next_action.sleep,
            state.attempt_number,
        )

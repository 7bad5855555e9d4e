"""One request to Stripe: authenticated, bounded in time and size, tried again where that can help."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests
import tenacity
from requests.auth import AuthBase

from airflow_provider_stripe_identity import __version__
from airflow_provider_stripe_identity.stripe_api.bounds import MAX_BODY_BYTES, BoundedSession
from airflow_provider_stripe_identity.stripe_api.clock import StripeClock
from airflow_provider_stripe_identity.stripe_api.errors import (
    StripeAPIConnectionError,
    StripeAPIError,
    StripeError,
    error_from_response,
)
from airflow_provider_stripe_identity.stripe_api.parameters import Query
from airflow_provider_stripe_identity.stripe_api.politeness import (
    DEFAULT_MAX_CONCURRENCY,
    DEFAULT_MAX_REQUESTS_PER_SECOND,
    Politeness,
)

log = logging.getLogger(__name__)

DEFAULT_BASE_URL = "https://api.stripe.com"
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
    :param timeout: read timeout of one request, in seconds; a whole answer may take twice that
    :param max_retries: how often one request is tried again
    :param max_requests_per_second: requests begun a second, of all threads together
    :param max_concurrency: requests under way at once, of all threads together
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
        max_requests_per_second: float = DEFAULT_MAX_REQUESTS_PER_SECOND,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
    ) -> None:
        _check_key(api_key, base_url, stripe_context)
        for name, value in {
            "api_version": api_version,
            "stripe_account": stripe_account,
            "stripe_context": stripe_context,
        }.items():
            if value and not (isinstance(value, str) and value.isascii() and value.isprintable()):
                raise ValueError(f"{name} is sent as a header: it must be printable ASCII text")
        if timeout <= 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")
        if max_retries < 0:
            raise ValueError(f"max_retries must be 0 or more, not {max_retries}")
        #: Where ``/v1`` begins.
        self.base_url = _checked_base_url(base_url, api_key)
        self.has_key = bool(api_key)
        self._auth = StripeAuth(api_key)
        #: What every request says besides its credentials.
        self.headers = {
            "Stripe-Version": api_version,
            "User-Agent": f"airflow-provider-stripe-identity/{__version__}",
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
        self.clock = StripeClock()
        self._politeness = Politeness(max_requests_per_second, max_concurrency)
        self._thread = threading.local()

    def get(
        self,
        path: str,
        query: Query = (),
        *,
        malformed: Callable[[dict[str, Any]], str | None] = lambda _: None,
        stop: threading.Event | None = None,
    ) -> dict[str, Any]:
        """
        Send one GET, again where Stripe's rules allow it, and return the JSON object of the answer.

        :param path: from ``/v1`` on
        :param query: names and values, encoded here
        :param malformed: looks at the object and says what is wrong with it; such an answer counts as a failed
            attempt, since a proxy or an interrupted deployment may have made it
        :param stop: ends the pause before a retry, and the retries, once it is set
        :raises StripeError: the last attempt's error
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, StripeError) and error.retryable),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(self._max_retries + 1),
                tenacity.stop_before_delay(MAX_TOTAL_SECONDS),
                tenacity.stop_when_event_set(stop or threading.Event()),
            ),
            wait=_wait,
            sleep=tenacity.sleep_using_event(stop) if stop else tenacity.sleep,
            before_sleep=_log_retry,
            reraise=True,
        )
        answer: dict[str, Any] = retrying(self._take_turn, path, query, malformed)
        return answer

    def _take_turn(self, path: str, query: Query, malformed: Callable[[dict[str, Any]], str | None]) -> dict[str, Any]:
        with self._politeness.turn():
            return self._attempt(path, query, malformed)

    def _attempt(self, path: str, query: Query, malformed: Callable[[dict[str, Any]], str | None]) -> dict[str, Any]:
        request = f"GET {path}"
        lost = None
        try:
            with self._session().get(
                self.base_url + path,
                params=query,
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
                f"no whole answer arrived, {lost}",
                hint="Check the network between the worker and the connection's host",
                retryable=True,
            )
        answer = _decode(body)
        if response.status_code != 200:
            raise error_from_response(request, response.status_code, response.headers, answer)
        self.clock.heard(response.headers.get("Date"))
        problem = "is not a JSON object" if answer is None else malformed(answer)
        if answer is None or problem:
            raise StripeAPIError(
                request,
                f"the answer {problem}",
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
            session.auth = self._auth
            session.headers.update(self.headers)
        return session


def _read(request: str, response: requests.Response) -> bytes:
    """Read the body, unpacked: that makes gzip a thousand times as large."""
    if response.headers.get("Content-Encoding", "gzip").lower() not in ("gzip", "identity"):
        raise StripeAPIConnectionError(
            request,
            "the answer is packed in a way that was not asked for",
            hint="A gateway or proxy on the way may have done that; check the connection's host",
            retryable=True,
        )
    body = bytearray()
    for chunk in response.iter_content(64 * 1024):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise StripeAPIConnectionError(
                request,
                f"the answer is larger than {MAX_BODY_BYTES // 1024 // 1024} MiB",
                hint="That is no answer of Stripe's; check the connection's host",
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
        raise ValueError("password: the API key is empty, or holds a blank, a line break or a non-ASCII character")
    if api_key.startswith("sk_org_") and not stripe_context:
        raise ValueError("stripe_context: an organization key (sk_org_…) needs the account to act on")


def _checked_base_url(base_url: str, api_key: str | None) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("host must be a URL such as https://api.stripe.com or https://gateway.example.com/stripe")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("host must be a plain URL: no user, password, query or fragment")
    if parts.scheme == "http" and api_key and not _is_loopback(parts.hostname):
        raise ValueError("host: the API key is not sent over plain http; use https, or a gateway without a password")
    return base_url.rstrip("/")


def _is_loopback(host: str) -> bool:
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
    # All others may repeat a part of the answer, or the URL with its query.
    from_the_system = isinstance(error, OSError) and not isinstance(error, requests.RequestException)
    return f"{kind}: {error}" if from_the_system else kind


def _wait(state: tenacity.RetryCallState) -> float:
    """Full jitter, and at least as long as the server asked for."""
    jitter = tenacity.wait_random_exponential(multiplier=FIRST_BACKOFF, max=MAX_BACKOFF)(state)
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, StripeError) else None
    return max(jitter, min(asked or 0.0, MAX_RETRY_AFTER))


def _log_retry(state: tenacity.RetryCallState) -> None:
    if state.outcome and state.next_action:
        log.warning(
            "%s - trying again in %.1f s (attempt %d failed)",
            state.outcome.exception(),
            state.next_action.sleep,
            state.attempt_number,
        )

"""The Airflow connection ``stripe_identity`` and what can be read through it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from airflow_provider_stripe_identity.airflow_names import BaseHook, connection_and_extra
from airflow_provider_stripe_identity.connection_form import CONN_FIELDS, UI_FIELD_BEHAVIOUR
from airflow_provider_stripe_identity.stripe_api import StripeError
from airflow_provider_stripe_identity.stripe_api.listing import list_objects
from airflow_provider_stripe_identity.stripe_api.pages import EVENTS, VERIFICATION_SESSIONS, list_page
from airflow_provider_stripe_identity.stripe_api.parameters import (
    Created,
    Time,
    checked_expand,
    events_query,
    verification_sessions_query,
)

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_stripe_identity.stripe_api.client import StripeIdentityClient

Number = TypeVar("Number", int, float)


class StripeIdentityHook(BaseHook):
    """
    Read VerificationSessions and events from Stripe.

    Errors are :class:`~airflow_provider_stripe_identity.stripe_api.StripeError` and its subclasses; wrong
    arguments are a ValueError that names the argument, raised before any request. Nothing is requested, and
    the connection is not looked up, before the first call.

    :param stripe_conn_id: Airflow connection: the API key as password, optionally a host (a gateway) and extras
    :param stripe_account: connected account to act on, instead of the connection's
    :param stripe_context: account an organization key acts on, instead of the connection's
    :param max_concurrency: requests at once, instead of the connection's
    """

    conn_name_attr = "stripe_conn_id"
    default_conn_name = "stripe_identity_default"
    conn_type = "stripe_identity"
    hook_name = "Stripe Identity"

    def __init__(
        self,
        stripe_conn_id: str = default_conn_name,
        *,
        stripe_account: str | None = None,
        stripe_context: str | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        super().__init__()
        self.stripe_conn_id = stripe_conn_id
        self.stripe_account = stripe_account
        self.stripe_context = stripe_context
        self.max_concurrency = max_concurrency

    @cached_property
    def client(self) -> StripeIdentityClient:
        """The HTTP client of this connection, made at first use."""
        connection = self.get_connection(self.stripe_conn_id)
        extra = connection.extra_dejson
        if self.max_concurrency is not None:
            extra = extra | {"max_concurrency": self.max_concurrency}
        return client_from_connection(
            connection,
            extra,
            stripe_account=self.stripe_account,
            stripe_context=self.stripe_context,
        )

    @classmethod
    async def connected(
        cls, stripe_conn_id: str, *, stripe_account: str | None = None, max_retries: int | None = None
    ) -> Self:
        """
        Return a hook whose connection is looked up without blocking the event loop, for triggers.

        Its calls do block: make them in a thread. Hooks made here share the HTTP client of their connection.

        :param max_retries: instead of the connection's
        :raises ValueError: naming the field of the connection that is wrong
        """
        connection, extra = await connection_and_extra(stripe_conn_id)
        if max_retries is not None:
            extra = extra | {"max_retries": max_retries}
        hook = cls(stripe_conn_id, stripe_account=stripe_account)
        # In a thread, because the first client of a process imports all that HTTP needs.
        hook.client = await asyncio.to_thread(
            client_from_connection, connection, extra, stripe_account=stripe_account, make=_shared_client
        )
        return hook

    def get_conn(self) -> StripeIdentityClient:
        """Return the HTTP client of this connection."""
        return self.client

    def list_verification_sessions(
        self,
        *,
        client_reference_id: str | None = None,
        created_gte: Time | None = None,
        created_lt: Time | None = None,
        status: str | None = None,
        related_customer: str | None = None,
        related_customer_account: str | None = None,
        expand: Sequence[str] = (),
        page_size: int = 100,
        starting_after: str | None = None,
        ending_before: str | None = None,
        max_items: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """
        Yield every matching session, newest first, a bounded number of pages of them in memory.

        A window with both ends is read in several ranges side by side, by as many threads as the connection allows
        (``max_concurrency``); they end with the iterator. Otherwise one page is read after another.

        The filters are Stripe's (https://docs.stripe.com/api/identity/verification_sessions/list). A session holds
        ``client_secret`` and ``url``, single-use credentials: do not log or store them.

        :param client_reference_id: only sessions with this reference
        :param created_gte: only sessions created then or later: a ``datetime`` (a naive one is UTC), epoch
            seconds, or ISO-8601 text with an offset
        :param created_lt: only sessions created before then
        :param status: ``canceled``, ``processing``, ``requires_input`` or ``verified``
        :param related_customer: only sessions of this Customer
        :param related_customer_account: only sessions of this Account representing a customer
        :param expand: fields to expand, such as ``data.verified_outputs``
        :param page_size: sessions a request, 1 to 100
        :param starting_after: only sessions that come after this session's id in the list (older)
        :param ending_before: only sessions that come before this session's id in the list (newer); the order
            stays newest first
        :param max_items: at most so many
        :raises ValueError: at once, naming the argument
        """
        query = verification_sessions_query(
            client_reference_id=client_reference_id,
            expand=expand,
            related_customer=related_customer,
            related_customer_account=related_customer_account,
            status=status,
        )
        return list_objects(
            self.client,
            VERIFICATION_SESSIONS,
            query,
            created_gte=created_gte,
            created_lt=created_lt,
            page_size=page_size,
            starting_after=starting_after,
            ending_before=ending_before,
            max_items=max_items,
        )

    def list_verification_sessions_page(
        self,
        *,
        client_reference_id: str | None = None,
        created: Created | None = None,
        ending_before: str | None = None,
        expand: Sequence[str] = (),
        limit: int | None = None,
        related_customer: str | None = None,
        related_customer_account: str | None = None,
        starting_after: str | None = None,
        status: str | None = None,
    ) -> dict[str, Any]:
        """
        Send one request to ``GET /v1/identity/verification_sessions`` and return its page as it is.

        The parameters are the endpoint's own, by Stripe's names.

        :param created: a time, or a mapping of ``gt``, ``gte``, ``lt``, ``lte`` to times
        :param limit: 1 to 100; Stripe's default is 10
        :return: ``{"object": "list", "data": […], "has_more": …, "url": …}``
        :raises ValueError: naming the argument
        """
        query = verification_sessions_query(
            client_reference_id=client_reference_id,
            created=created,
            expand=expand,
            related_customer=related_customer,
            related_customer_account=related_customer_account,
            status=status,
        )
        return list_page(
            self.client,
            VERIFICATION_SESSIONS,
            query,
            limit=limit,
            starting_after=starting_after,
            ending_before=ending_before,
        )

    def get_verification_session(
        self, session_id: str, *, expand: Sequence[str] = (), stop: threading.Event | None = None
    ) -> dict[str, Any]:
        """
        Retrieve one session.

        :param session_id: ``vs_…``
        :param expand: fields to expand, such as ``verified_outputs`` (without ``data.``)
        :param stop: ends the retries once it is set
        :raises ValueError: naming the argument
        """
        # The id becomes part of the path: let nothing else of the API be reached through it.
        if not isinstance(session_id, str) or not session_id.isascii() or not session_id.replace("_", "").isalnum():
            raise ValueError("session_id must be the id of a VerificationSession (vs_…)")
        query = [("expand[]", path) for path in checked_expand(expand)]
        return self.client.get(
            f"{VERIFICATION_SESSIONS}/{session_id}",
            query,
            malformed=lambda answer: None if answer.get("id") == session_id else "is not the session asked for",
            stop=stop,
        )

    def list_events(
        self,
        *,
        types: Sequence[str],
        created_gte: Time | None = None,
        created_lt: Time | None = None,
        page_size: int = 100,
        starting_after: str | None = None,
        ending_before: str | None = None,
        max_items: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """
        Yield Stripe's events of the given types, newest first; Stripe keeps them for 30 days.

        The events' snapshots (``data.object``) may hold ``client_secret``: do not log or store it.

        :param types: such as ``identity.verification_session.verified``, at most 20
        :param created_gte: only events of then or later, as in :meth:`list_verification_sessions`
        :param created_lt: only events before then
        :param page_size: events a request, 1 to 100
        :param starting_after: only events older than the one with this id
        :param ending_before: only events newer than the one with this id
        :param max_items: at most so many
        :raises ValueError: at once, naming the argument
        """
        return list_objects(
            self.client,
            EVENTS,
            events_query(types=types),
            created_gte=created_gte,
            created_lt=created_lt,
            page_size=page_size,
            starting_after=starting_after,
            ending_before=ending_before,
            max_items=max_items,
        )

    def test_connection(self) -> tuple[bool, str]:
        """Ask for one session, as every task will, and say what works or what is missing."""
        try:
            page = self.list_verification_sessions_page(limit=1)
        except (ValueError, StripeError) as error:
            return False, str(error)
        if page["data"]:
            mode = "live mode" if page["data"][0].get("livemode") else "test mode"
        else:
            mode = self.client.mode or "mode unknown, there is no session yet"
        return True, f"Connected to Stripe Identity ({mode}); VerificationSessions can be listed"

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels, placeholders and hidden fields of the connection form, for Airflow before 3.3."""
        return {key.replace("-", "_"): value for key, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form, for Airflow before 3.3."""
        from wtforms import StringField  # type: ignore[import-untyped]

        return {
            name: StringField(field["label"], description=field["description"]) for name, field in CONN_FIELDS.items()
        }


def client_from_connection(
    connection: Connection,
    extra: dict[str, Any],
    *,
    stripe_account: str | None = None,
    stripe_context: str | None = None,
    make: Callable[..., StripeIdentityClient] | None = None,
) -> StripeIdentityClient:
    """
    Make the HTTP client that an Airflow connection describes.

    :param extra: the connection's extra, already read: in a triggerer that is an asynchronous call
    :param make: what makes the client, by default its class
    :raises ValueError: naming the field of the connection that is wrong
    """
    from airflow_provider_stripe_identity.stripe_api.client import (
        DEFAULT_API_VERSION,
        DEFAULT_BASE_URL,
        DEFAULT_MAX_RETRIES,
        DEFAULT_TIMEOUT,
        StripeIdentityClient,
    )
    from airflow_provider_stripe_identity.stripe_api.politeness import (
        DEFAULT_MAX_CONCURRENCY,
        DEFAULT_MAX_REQUESTS_PER_SECOND,
    )

    if connection.login and not connection.password:
        raise ValueError("login: the API key belongs into the connection's password")
    return (make or StripeIdentityClient)(
        connection.password or None,
        base_url=_base_url(connection.host or DEFAULT_BASE_URL, connection.port),
        api_version=extra.get("api_version") or DEFAULT_API_VERSION,
        stripe_account=stripe_account or extra.get("stripe_account"),
        stripe_context=stripe_context or extra.get("stripe_context"),
        timeout=_number(extra, "timeout", float, DEFAULT_TIMEOUT),
        max_retries=_number(extra, "max_retries", int, DEFAULT_MAX_RETRIES),
        max_requests_per_second=_number(extra, "max_requests_per_second", float, DEFAULT_MAX_REQUESTS_PER_SECOND),
        max_concurrency=_number(extra, "max_concurrency", int, DEFAULT_MAX_CONCURRENCY),
    )


def _base_url(host: str, port: int | None) -> str:
    """Put the connection's port, if it has one, where a URL has it: before the path."""
    url = urlsplit(host if "://" in host else f"https://{host}")
    if port and url.port is None:
        url = url._replace(netloc=f"{url.netloc}:{port}")
    elif port and url.port != port:
        raise ValueError(f"port: it is {port}, but the host says {url.port}; leave it out of one of them")
    return url.geturl()


@cache
def _shared_client(*args: Any, **kwargs: Any) -> StripeIdentityClient:
    from airflow_provider_stripe_identity.stripe_api.client import StripeIdentityClient

    return StripeIdentityClient(*args, **kwargs)


def _number(extra: dict[str, Any], name: str, kind: Callable[[Any], Number], default: Number) -> Number:
    """Read a number that a form saves as a number, a URI as text, and an empty form field as null."""
    value = extra.get(name)
    if value is None or value == "":
        return default
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} in the connection's extra must be a number, not {value!r}") from None

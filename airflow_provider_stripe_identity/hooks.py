"""The Airflow connection ``stripe_identity`` and what can be read through it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity._airflow.version_compat import BaseHook
from airflow_provider_stripe_identity._connection.form import CONN_FIELDS, CONNECTION_TYPE, UI_FIELD_BEHAVIOUR
from airflow_provider_stripe_identity._connection.report import report
from airflow_provider_stripe_identity._stripe_api.accounts import Accounts, list_connected_accounts
from airflow_provider_stripe_identity._stripe_api.errors import StripeError
from airflow_provider_stripe_identity._stripe_api.listing import list_objects
from airflow_provider_stripe_identity._stripe_api.pages import (
    EVENTS,
    VERIFICATION_SESSIONS,
    list_page,
    verification_session_path,
)
from airflow_provider_stripe_identity._stripe_api.parameters import (
    Created,
    Time,
    checked_expand,
    events_query,
    verification_sessions_query,
)

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient


class StripeIdentityHook(BaseHook):
    """
    Read VerificationSessions and events from Stripe.

    Errors are :class:`~airflow_provider_stripe_identity.exceptions.StripeError` and its subclasses; wrong
    arguments are a ValueError that names the argument, raised before any request. Nothing is requested, and
    the connection is not looked up, before the first call.

    :param stripe_conn_id: Airflow connection: the API key as password, optionally a host (a gateway) and extras
    :param stripe_account: connected account to act on, instead of the connection's
    :param stripe_context: account an organization key acts on, instead of the connection's
    :param max_concurrency: requests at once, instead of the connection's
    """

    conn_name_attr = "stripe_conn_id"
    default_conn_name = "stripe_identity_default"
    conn_type = CONNECTION_TYPE
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
        from airflow_provider_stripe_identity._connection.client import client_from_connection

        return client_from_connection(
            self.get_connection(self.stripe_conn_id),
            stripe_account=self.stripe_account,
            stripe_context=self.stripe_context,
            max_concurrency=self.max_concurrency,
        )

    def acting_on(self, stripe_account: str) -> StripeIdentityHook:
        """
        Return a hook for another account, which shares this one's rate limit and HTTP connections.

        :param stripe_account: connected account
        """
        other = StripeIdentityHook(self.stripe_conn_id, stripe_account=stripe_account)
        other.client = self.client.acting_on(stripe_account)
        return other

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
        expected: int = 0,
        accounts: Accounts | None = None,
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
        :param page_size: sessions per request, 1 to 100
        :param starting_after: only sessions that come after this session's id in the list (older)
        :param ending_before: only sessions that come before this session's id in the list (newer); the order
            stays newest first
        :param max_items: maximum number of objects
        :param expected: about how many a window with both ends holds, if that is known: it is then read in several
            ranges from the first request on
        :param accounts: read these connected accounts one after another, in a window with both ends, and nothing to
            limit it; for the operators
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
            expected=expected,
            accounts=accounts,
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

        :param client_reference_id: only sessions with this reference
        :param created: a time, or a mapping of ``gt``, ``gte``, ``lt``, ``lte`` to times
        :param ending_before: only sessions that come before this session's id in the list (newer)
        :param expand: fields to expand, such as ``data.verified_outputs``
        :param limit: 1 to 100; Stripe's default is 10
        :param related_customer: only sessions of this Customer
        :param related_customer_account: only sessions of this Account representing a customer
        :param starting_after: only sessions that come after this session's id in the list (older)
        :param status: ``canceled``, ``processing``, ``requires_input`` or ``verified``
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
        self,
        session_id: str,
        *,
        expand: Sequence[str] = (),
        stripe_account: str | None = None,
        stop: threading.Event | None = None,
    ) -> dict[str, Any]:
        """
        Retrieve one session.

        :param session_id: ``vs_…``
        :param expand: fields to expand, such as ``verified_outputs`` (without ``data.``)
        :param stripe_account: connected account that it belongs to, instead of the hook's
        :param stop: for readers of many sessions: wait out an outage, but end soon after this is set
        :raises ValueError: naming the argument
        """
        path = verification_session_path(session_id)
        query = [("expand[]", field) for field in checked_expand(expand)]
        client = self.client.acting_on(stripe_account) if stripe_account else self.client
        return client.get(
            path,
            query,
            malformed=lambda answer: None if answer.get("id") == session_id else "is not the session asked for",
            patient=stop is not None,
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
        expected: int = 0,
        accounts: Accounts | None = None,
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
        :param max_items: maximum number of objects
        :param expected: about how many a window with both ends holds, if that is known: it is then read in several
            ranges from the first request on
        :param accounts: read these connected accounts one after another, in a window with both ends, and nothing to
            limit it; for the operators
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
            expected=expected,
            accounts=accounts,
        )

    def list_connected_accounts(self) -> list[str]:
        """
        Return the ids of all accounts connected to the platform, the last connected first.

        ``GET /v1/accounts`` returns much about the accounts and their owners; nothing but the ids is kept. A restricted
        key needs read access to connected accounts.
        """
        return list_connected_accounts(self.client)

    def test_connection(self) -> tuple[bool, str]:
        """Ask for one session and one event, as tasks will; return whether sessions can be read, and what else can."""
        try:
            return True, report(self.client)
        except (ValueError, StripeError) as error:
            return False, str(error)

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

"""Operators that write Stripe Identity data to object storage."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_provider_stripe_identity.changed_sessions import changed_sessions, check_events_are_kept, fetched_anew
from airflow_provider_stripe_identity.failures import (
    permanent_errors_fail_the_task,
    wrong_arguments_fail_the_task,
)
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.jsonl import (
    DEFAULT_FIELDS,
    Fields,
    JsonLines,
    check_fields,
)
from airflow_provider_stripe_identity.lineage import emit_asset_events, openlineage, report_hook_lineage
from airflow_provider_stripe_identity.links import StripeDashboardLink, dashboard_url
from airflow_provider_stripe_identity.progress import with_progress
from airflow_provider_stripe_identity.storage import clean_uri, open_destination, put
from airflow_provider_stripe_identity.stripe_api.parameters import Query, Time, verification_sessions_query
from airflow_provider_stripe_identity.windows import (
    Window,
    check_lookback,
    check_window_arguments,
    resolve_window,
    wait_until_settled,
)

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context


class _ToObjectStorageOperator(BaseOperator):
    """
    What the exports share: the rows of the run's window become one object, whole or not at all.

    The parameters are described where they are public.
    """

    template_fields: Sequence[str] = (
        "destination",
        "destination_conn_id",
        "stripe_conn_id",
        "created_gte",
        "created_lt",
        "extra_columns",
        "stripe_account",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"extra_columns": "json"}
    ui_color = "#e6e4ff"
    operator_extra_links = (StripeDashboardLink(),)
    _event_columns: ClassVar[bool] = False

    def __init__(
        self,
        *,
        destination: str,
        destination_conn_id: str | None = None,
        stripe_conn_id: str = StripeIdentityHook.default_conn_name,
        created_gte: Time | None = None,
        created_lt: Time | None = None,
        window: timedelta | None = None,
        expand: Sequence[str] = (),
        fields: Fields = DEFAULT_FIELDS,
        extra_columns: Mapping[str, Any] | None = None,
        stripe_account: str | None = None,
        max_concurrency: int | None = None,
        settle: timedelta = timedelta(seconds=30),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # What templates cannot change is refused when the DAG is parsed, the rest when the task starts.
        check_window_arguments(created_gte, created_lt, window)
        check_fields(fields)
        verification_sessions_query(expand=expand)
        if not isinstance(settle, timedelta) or settle < timedelta(0):
            raise ValueError(f"settle must be a timedelta of 0 or more, not {settle!r}")
        self.destination = destination
        self.destination_conn_id = destination_conn_id
        self.stripe_conn_id = stripe_conn_id
        self.created_gte = created_gte
        self.created_lt = created_lt
        self.window = window
        self.expand = expand
        self.fields = fields
        self.extra_columns = extra_columns
        self.stripe_account = stripe_account
        self.max_concurrency = max_concurrency
        self.settle = settle
        self._done: tuple[Window, JsonLines, dict[str, Any]] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Export the run's window."""
        with wrong_arguments_fail_the_task():
            window = self._window(context)
            lines = JsonLines(
                self.fields,
                expand=self._expand(),
                event_columns=self._event_columns,
                extra_columns=self.extra_columns,
            )
            destination = open_destination(self.destination, self.destination_conn_id)
            sessions = self._sessions(window)
            wait_until_settled(window, self.settle)
        uri = clean_uri(destination)
        began = time.monotonic()
        self.log.info("Exporting VerificationSessions of %s to %s", window, uri)
        with (
            permanent_errors_fail_the_task(),
            tempfile.TemporaryFile() as spool,  # without a name: nothing stays behind, even after SIGKILL
        ):
            lines.write(sessions, spool, compress=uri.endswith(".gz"))
            size = spool.tell()
            put(spool, destination)
        self.log.info("Wrote %d sessions in %d bytes to %s", lines.sessions, size, uri)
        result = {
            "uri": uri,
            "sessions": lines.sessions,
            "bytes": size,
            "created_gte": window.created_gte,
            "created_lt": window.created_lt,
            "oldest": lines.oldest,
            "newest": lines.newest,
            "statuses": dict(lines.statuses),
            "as_of": self._as_of(began),
        }
        report_hook_lineage(self.hook, uri)
        emit_asset_events(context, self.outlets, result)
        self._done = window, lines, result
        return result

    @cached_property
    def hook(self) -> StripeIdentityHook:
        """Reads from Stripe."""
        return StripeIdentityHook(
            self.stripe_conn_id, stripe_account=self.stripe_account, max_concurrency=self.max_concurrency
        )

    def dashboard_url(self) -> str:
        """Return where the Stripe Dashboard shows what was exported; empty before that."""
        if self._done is None:
            return ""
        window, lines, _ = self._done
        return dashboard_url(self.hook.client, livemode=lines.livemode, filters=self._dashboard_filters(window))

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Return what was read and written; the OpenLineage provider asks for it."""
        if self._done is None:
            return None
        _, lines, result = self._done
        return openlineage(result, lines.columns)

    def _window(self, context: Context) -> Window:
        return resolve_window(context, created_gte=self.created_gte, created_lt=self.created_lt, window=self.window)

    def _expand(self) -> tuple[str, ...]:
        """Stripe sends ``verified_outputs`` only when it is expanded, so naming the field asks for that."""
        expand = tuple(self.expand)
        if self.fields != "all" and "verified_outputs" in self.fields and "data.verified_outputs" not in expand:
            expand += ("data.verified_outputs",)
        return expand

    def _sessions(self, window: Window) -> Iterable[dict[str, Any]]:
        """
        Yield the sessions that belong into the object, one after another.

        :raises ValueError: at once, naming the argument
        """
        raise NotImplementedError

    def _as_of(self, began: float) -> int | None:
        """
        Return the second at Stripe before which every change is in the rows.

        They were all read later than ``began``, from lists that are complete after ``settle``.
        """
        return self.hook.client.clock.at(began - self.settle.total_seconds())

    def _dashboard_filters(self, window: Window) -> Query:
        return ()


class StripeIdentityToObjectStorageOperator(_ToObjectStorageOperator):
    """
    Write the VerificationSessions created in the run's window to one object, a JSON line each, newest first.

    The object appears whole or not at all, and the same run writes the same object again, so clearing the task
    replaces it. A window without sessions writes an empty object.

    The window is half-open, ``[created_gte, created_lt)``: the explicit bounds when given, else the run's data
    interval, else ``window`` (see :mod:`airflow_provider_stripe_identity.windows`). Wrong arguments, a wrong key and
    missing permissions fail the task at once, without retries.

    Rows are the sessions as they are when they are read, and sessions change long after they were created. ``as_of`` of
    the result orders the rows of several exports of a session (see :mod:`airflow_provider_stripe_identity.schema`).

    :param destination: URL of the object, e.g.
        ``s3://aws_default@lake/verification_sessions/dt={{ ds }}/sessions.jsonl.gz`` (templated); a name that ends in
        ``.gz`` is compressed
    :param destination_conn_id: Airflow connection of the object storage, instead of the one in the URL (templated)
    :param stripe_conn_id: Airflow connection of type ``stripe_identity`` (templated)
    :param created_gte: explicit start of the window, with ``created_lt`` (templated)
    :param created_lt: explicit end of the window (templated)
    :param window: length of the window for runs without a data interval of their own
    :param lookback: start the window that much earlier, to read again the sessions that have changed since
    :param status: only sessions that have this status now (templated)
    :param client_reference_id: only sessions with this reference (templated)
    :param related_customer: only sessions of this Customer (templated)
    :param related_customer_account: only sessions of this Account representing a customer (templated)
    :param expand: paths for Stripe to expand, such as ``data.verified_outputs``; what is expanded is written
    :param fields: top-level fields to write, or ``"all"``. The default leaves out the personal ones
        (``provided_details``, ``verified_outputs``); ``client_secret`` and ``url`` are never written
    :param extra_columns: merged into every row, e.g. ``{"_exported_at": "{{ ts }}"}`` (templated)
    :param stripe_account: connected account to read, instead of the connection's (templated)
    :param max_concurrency: requests at once, instead of the connection's
    :param settle: how long after its end a window is read, for Stripe's list to be complete; a task that
        starts earlier waits
    :return: ``{"uri", "sessions", "bytes", "created_gte", "created_lt", "oldest", "newest", "statuses", "as_of"}``,
        the times in epoch seconds; every change that was made before ``as_of``, by Stripe's clock, is in the rows
    """

    template_fields: Sequence[str] = (
        *_ToObjectStorageOperator.template_fields,
        "status",
        "client_reference_id",
        "related_customer",
        "related_customer_account",
    )

    def __init__(
        self,
        *,
        status: str | None = None,
        client_reference_id: str | None = None,
        related_customer: str | None = None,
        related_customer_account: str | None = None,
        lookback: timedelta = timedelta(0),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_lookback(lookback)
        self.status = status
        self.client_reference_id = client_reference_id
        self.related_customer = related_customer
        self.related_customer_account = related_customer_account
        self.lookback = lookback

    def _window(self, context: Context) -> Window:
        return super()._window(context).starting_earlier(self.lookback)

    def _sessions(self, window: Window) -> Iterable[dict[str, Any]]:
        sessions = self.hook.list_verification_sessions(
            **self._filters(), created_gte=window.created_gte, created_lt=window.created_lt, expand=self._expand()
        )
        return with_progress(sessions, window)

    def _filters(self) -> dict[str, Any]:
        return {
            "client_reference_id": self.client_reference_id,
            "related_customer": self.related_customer,
            "related_customer_account": self.related_customer_account,
            "status": self.status,
        }

    def _dashboard_filters(self, window: Window) -> Query:
        created = {"gte": window.created_gte, "lt": window.created_lt}
        return verification_sessions_query(**self._filters(), created=created)


class StripeIdentityChangesToObjectStorageOperator(_ToObjectStorageOperator):
    """
    Write the VerificationSessions that changed in the run's window to one object, a JSON line each, last change first.

    Changes are Stripe's events of the six ``identity.verification_session.…`` types; the key needs the permission
    *Events: Read*. A row has the form of
    :class:`StripeIdentityToObjectStorageOperator`'s, and the columns ``_event_id``, ``_event_type`` and
    ``_event_created`` of the session's last event in the window. Windows, atomicity and errors are the same too, but
    one that begins more than 30 days ago fails at once: Stripe keeps events no longer.

    The row is the session as that event left it. Stripe makes no event when ``metadata`` is updated or a redaction
    begins; such changes come with the next event.

    :param destination: URL of the object (templated)
    :param refetch: read every changed session anew, one request each: the row is then the session as it is now, in the
        connection's API version
    :param expand: paths for Stripe to expand, as in the export, e.g. ``data.verified_outputs``; needs ``refetch``,
        because the events hold nothing expanded
    :param kwargs: the rest is as in the export: ``destination_conn_id``, ``stripe_conn_id``, ``created_gte``,
        ``created_lt`` and ``window`` (of the events), ``fields``, ``extra_columns``, ``stripe_account``,
        ``max_concurrency``, ``settle``
    :return: as in the export. ``created_gte`` and ``created_lt`` are the window of the events, ``oldest`` and
        ``newest`` the creation of the sessions; ``as_of`` is None without ``refetch``: each row is as of its own event
    """

    _event_columns = True

    def __init__(self, *, refetch: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not refetch and (expand := self._expand()):
            raise ValueError(f"expand: events hold nothing expanded ({', '.join(expand)}); set refetch=True")
        self.refetch = refetch

    def _sessions(self, window: Window) -> Iterable[dict[str, Any]]:
        check_events_are_kept(window, time.time())
        changed = changed_sessions(self.hook, window, check_version=not self.refetch)
        if not self.refetch:
            return changed
        return fetched_anew(self.hook, changed, [path.removeprefix("data.") for path in self._expand()])

    def _as_of(self, began: float) -> int | None:
        return super()._as_of(began) if self.refetch else None

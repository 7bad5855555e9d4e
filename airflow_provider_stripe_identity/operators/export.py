"""Operators that write Stripe Identity data to object storage."""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_provider_stripe_identity._airflow import metrics
from airflow_provider_stripe_identity._airflow.failures import (
    permanent_errors_fail_the_task,
    wrong_arguments_fail_the_task,
)
from airflow_provider_stripe_identity._airflow.parse_warnings import warn_of_the_dag_file
from airflow_provider_stripe_identity._airflow.templates import warn_of_none
from airflow_provider_stripe_identity._airflow.version_compat import connection_of_store
from airflow_provider_stripe_identity._export.accounts import (
    StripeAccounts,
    accounts_to_read,
    check_stripe_accounts,
    result_of_accounts,
    warn_of_skipped,
)
from airflow_provider_stripe_identity._export.changed_sessions import changed_sessions, refetched
from airflow_provider_stripe_identity._export.destinations import (
    check_destination,
    is_templated,
    missing_part,
    name_of_window,
    names_its_window,
    next_run_replaces,
)
from airflow_provider_stripe_identity._export.events import every_event, with_late_events
from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS, Fields
from airflow_provider_stripe_identity._export.jsonl import JsonLines, check_fields
from airflow_provider_stripe_identity._export.previous_run import expected_rows, previous_result, replaced_window
from airflow_provider_stripe_identity._export.progress import with_progress
from airflow_provider_stripe_identity._export.schedules import check_runs_leave_nothing_out
from airflow_provider_stripe_identity._export.storage import (
    check_store,
    clean_uri,
    is_compressed,
    open_destination,
    put,
)
from airflow_provider_stripe_identity._export.windows import (
    Window,
    check_lookback,
    check_was_over,
    check_window_arguments,
    ends_about_now,
    resolve_window,
    wait_until_settled,
)
from airflow_provider_stripe_identity._stripe_api.errors import StripeError, scrub
from airflow_provider_stripe_identity._stripe_api.parameters import (
    EVENT_TYPES,
    Query,
    Time,
    from_the_session_on,
    verification_sessions_query,
)
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.links import StripeDashboardLink, dashboard_url, dashboard_url_of_accounts
from airflow_provider_stripe_identity.operators._lineage import emit_asset_events, openlineage, report_hook_lineage

log = logging.getLogger(__name__)

#: How long after its end a window is read: Stripe does not document when a new object is in its lists.
SETTLE = timedelta(seconds=30)
#: How far the changes look back for events that were listed late: other connectors to Stripe wait one to five minutes.
LATE_EVENTS = timedelta(minutes=15)

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_stripe_identity._stripe_api.accounts import Accounts


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
        "stripe_accounts",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"extra_columns": "json"}
    ui_color = "#e6e4ff"
    operator_extra_links = (StripeDashboardLink(),)
    _event_columns: ClassVar[bool] = False
    #: What a row is, in the result and in the log.
    _rows: ClassVar[str] = "sessions"

    def __init__(
        self,
        *,
        destination: str,
        destination_conn_id: str | None,
        stripe_conn_id: str,
        created_gte: Time | None,
        created_lt: Time | None,
        window: timedelta | None,
        lookback: timedelta,
        expand: Sequence[str],
        fields: Fields,
        extra_columns: Mapping[str, Any] | None,
        stripe_account: str | None,
        stripe_accounts: StripeAccounts | None,
        skip_unreadable_accounts: bool,
        max_concurrency: int | None,
        settle: timedelta,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # What templates cannot change is refused when the DAG is parsed, the rest when the task starts.
        check_destination(destination)
        check_window_arguments(created_gte, created_lt, window)
        check_lookback(lookback)
        self._check_schedule(created_gte, window)
        if created_gte is None:
            self._warn_of_one_name_in_a_schedule(destination)
        check_fields(fields)
        verification_sessions_query(expand=expand)
        if stripe_account is not None and stripe_accounts is not None:
            raise ValueError("stripe_account and stripe_accounts exclude each other; give one")
        check_stripe_accounts(stripe_accounts)
        if skip_unreadable_accounts and stripe_accounts is None:
            raise ValueError("skip_unreadable_accounts is about stripe_accounts, which is not set")
        if not isinstance(settle, timedelta) or settle < timedelta(0):
            raise ValueError(f"settle must be a timedelta of 0 or more, not {settle!r}")
        self.destination = destination
        self.destination_conn_id = destination_conn_id
        self.stripe_conn_id = stripe_conn_id
        self.created_gte = created_gte
        self.created_lt = created_lt
        self.window = window
        self.lookback = lookback
        self.expand = expand
        self.fields = fields
        self.extra_columns = extra_columns
        self.stripe_account = stripe_account
        self.stripe_accounts = stripe_accounts
        self.skip_unreadable_accounts = skip_unreadable_accounts
        self.max_concurrency = max_concurrency
        self.settle = settle
        self._destination_is_templated = is_templated(destination)
        self._done: tuple[Window, JsonLines, dict[str, Any]] | None = None
        self._warn_of_one_name_in_two_tasks()

    def execute(self, context: Context) -> dict[str, Any]:
        """Export the run's window."""
        with permanent_errors_fail_the_task(), wrong_arguments_fail_the_task():
            self._check_schedule(self.created_gte, self.window)  # an operator may join its DAG after it is made
            self._check_names_of_mapped_tasks()
            of_the_run = self._window(context)
            window = self._looking_back(of_the_run)
            lines = JsonLines(
                self.fields,
                expand=from_the_session_on(self._expand()),
                event_columns=self._event_columns,
                account_column=self.stripe_accounts is not None,
                extra_columns=self.extra_columns,
            )
            destination = open_destination(name_of_window(self.destination, of_the_run), self.destination_conn_id)
            counts_before = self.hook.client.counts.copy()
            accounts = self._accounts_to_read()
            previous = previous_result(context)
            sessions = self._sessions(window, accounts, expected_rows(previous, window, self._rows))
        uri = clean_uri(destination)
        self._warn_of_what_is_replaced(context, of_the_run, uri, replaced_window(previous, window, uri))
        check_store(destination)
        with wrong_arguments_fail_the_task():
            if ends_about_now(window) and not self.hook.client.clock.known:
                with suppress(StripeError):  # what stands in the way of the read, the read itself reports best
                    self._ask_for_the_time()
            wait_until_settled(window, self.settle, self.hook.client.clock)
        began = time.monotonic()
        log.info("Exporting VerificationSessions of %s to %s", window, uri)
        with (
            permanent_errors_fail_the_task(),
            tempfile.TemporaryFile() as spool,  # without a name: nothing stays behind, even after SIGKILL
        ):
            lines.write(sessions, spool, compress=is_compressed(uri))
            # They were all read later than ``began``, from lists that are complete after ``settle``.
            as_of = self.hook.client.clock.at(began - self.settle.total_seconds())
            check_was_over(window, as_of)
            size = spool.tell()
            put(spool, destination)
        counts = self.hook.client.counts - counts_before
        result = {
            "uri": uri,
            "conn_id": connection_of_store(destination),
            self._rows: lines.sessions,
            "bytes": size,
            "created_gte": window.created_gte,
            "created_lt": window.created_lt,
            "oldest": lines.oldest,
            "newest": lines.newest,
            "statuses": dict(lines.statuses),
            "as_of": as_of if self._rows_are_read() else None,
            "requests": counts["requests"],
        }
        if accounts:
            result |= result_of_accounts(accounts)
            warn_of_skipped(accounts)
        seconds = time.monotonic() - began
        self._log_summary(result, counts, seconds)
        metrics.count(self.stripe_conn_id, self._rows, lines.sessions)
        metrics.export_took(self.stripe_conn_id, seconds)
        report_hook_lineage(self.hook, uri)
        emit_asset_events(context, self.outlets, result)
        self._done = window, lines, result
        return result

    def _warn_of_one_name_in_a_schedule(self, destination: str) -> None:
        """When the DAG is parsed, as far as the DAG is known by then; mapped tasks may have a name each."""
        if not names_its_window(destination):
            problem = "is the same for every run of the schedule"
        elif missing := missing_part(destination):
            problem = "has %{} without %{}, so later windows have the same name".format(*missing)
        else:
            return
        if not self._is_being_parsed():
            return
        timetable = getattr(self.dag, "timetable", None)
        if timetable is not None and type(timetable).__name__ not in ("NullTimetable", "OnceTimetable"):
            warn_of_the_dag_file(
                f"{self.dag.dag_id}.{self.task_id}: destination {problem}, and a run replaces the object of an earlier "
                "one. Give each window its own name, such as {created_gte:%Y-%m-%d} or {created_gte:%Y-%m-%dT%H%M}."
            )

    def _warn_of_one_name_in_two_tasks(self) -> None:
        """When the DAG is parsed; they may be two branches, of which one runs."""
        if self._destination_is_templated or not self._is_being_parsed():
            return
        for other in self.dag.tasks:
            if (
                isinstance(other, _ToObjectStorageOperator)
                and other is not self
                and other.destination == self.destination
                and other.destination_conn_id == self.destination_conn_id
                and (not names_its_window(self.destination) or other._window_arguments() == self._window_arguments())
            ):
                warn_of_the_dag_file(
                    f"{self.dag.dag_id}.{self.task_id}: destination is that of {other.task_id} too, and each replaces "
                    "the object of the other. Give each task a name of its own."
                )

    def _window_arguments(self) -> tuple[Time | None, Time | None, timedelta | None]:
        return self.created_gte, self.created_lt, self.window

    def _is_being_parsed(self) -> bool:
        """Whether the operator is made in its DAG's file, and not from a mapped one when the task runs."""
        return self.has_dag() and not getattr(self, "_BaseOperator__from_mapped", False)  # type: ignore[no-untyped-call]

    def _check_names_of_mapped_tasks(self) -> None:
        """
        Refuse one name for all mapped tasks: only the rows of the last one would stay.

        :raises ValueError: with what to do
        """
        mapped = self.dag.task_dict.get(self.task_id) if self.has_dag() else None  # type: ignore[no-untyped-call]
        partial = getattr(mapped, "partial_kwargs", {})
        destination = partial.get("destination")
        windows_are_mapped = self.created_gte is not None and "created_gte" not in partial
        if destination is None or is_templated(destination):
            return
        if not (windows_are_mapped and names_its_window(destination)):
            raise ValueError(
                "destination is the same for all mapped tasks, so each would replace the object of the others.\n"
                "Name what is mapped, such as {{ task.stripe_account }} or {{ ti.map_index }}, or map destination too."
            )

    def _warn_of_what_is_replaced(self, context: Context, window: Window, uri: str, replaced: Window | None) -> None:
        """Explicit bounds may belong to the name, mapped tasks may have one each, and no run follows a manual one."""
        if replaced:
            log.warning(
                "This run replaces the object of the previous one, which holds %s: %s\n"
                "Give each window its own name, such as {created_gte:%%Y-%%m-%%d} or {created_gte:%%Y-%%m-%%dT%%H%%M}.",
                replaced,
                uri,
            )
            return
        run, task_instance = context.get("dag_run"), context.get("ti")
        is_one_of_many = (
            self.created_gte is None
            and getattr(run, "run_type", "manual") != "manual"
            and getattr(task_instance, "map_index", -1) < 0
        )
        if is_one_of_many and not self._destination_is_templated and next_run_replaces(self.destination, window):
            log.warning(
                "The next run writes the same object and replaces this one: %s\n"
                "Give each window its own name, such as {created_gte:%%Y-%%m-%%d} or {created_gte:%%Y-%%m-%%dT%%H%%M}.",
                uri,
            )

    def _log_summary(self, result: dict[str, Any], counts: Counter[str], seconds: float) -> None:
        statuses = ", ".join(f"{count} {scrub(status)}" for status, count in sorted(result["statuses"].items()))
        log.info(
            "Wrote %d %s (%s), %d bytes, to %s: %d requests, %d of them retries, %d answered with 429, %.1f s",
            result[self._rows],
            self._rows,
            statuses or "none",
            result["bytes"],
            result["uri"],
            counts["requests"],
            counts["retries"],
            counts["rate_limited"],
            seconds,
        )

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
        if self.stripe_accounts is not None:
            return dashboard_url_of_accounts(self.hook.client, livemode=lines.livemode)
        return dashboard_url(self.hook.client, livemode=lines.livemode, filters=self._dashboard_filters(window))

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Return what was read and written; the OpenLineage provider asks for it."""
        if self._done is None:
            return None
        _, lines, result = self._done
        return openlineage(result, lines.columns)

    def _window(self, context: Context) -> Window:
        """Return the run's window, without ``lookback``."""
        return resolve_window(context, created_gte=self.created_gte, created_lt=self.created_lt, window=self.window)

    def _check_schedule(self, created_gte: Time | None, window: timedelta | None) -> None:
        if created_gte is None and self.has_dag():  # type: ignore[no-untyped-call]
            check_runs_leave_nothing_out(getattr(self.dag, "timetable", None), window)

    def _looking_back(self, window: Window) -> Window:
        """
        Return what is read for a run's window.

        :raises AirflowFailException: for one that cannot be read any more
        """
        return window.starting_earlier(self.lookback)

    def _expand(self) -> tuple[str, ...]:
        """Stripe sends ``verified_outputs`` only when it is expanded, so naming the field asks for that."""
        expand = tuple(self.expand)
        if self.fields != "all" and "verified_outputs" in self.fields and "data.verified_outputs" not in expand:
            expand += ("data.verified_outputs",)
        return expand

    def _accounts_to_read(self) -> Accounts | None:
        """Return the accounts of ``stripe_accounts``, now that templates are rendered; None for the connection's."""
        if self.stripe_accounts is None:
            return None
        return accounts_to_read(self.hook, self.stripe_accounts, skip_unreadable=self.skip_unreadable_accounts)

    def _sessions(self, window: Window, accounts: Accounts | None, expected: int) -> Iterable[dict[str, Any]]:
        """
        Yield the sessions that belong in the object, one after another.

        :param accounts: to read one after another, instead of the connection's
        :param expected: about how many rows there will be; 0 if unknown
        :raises ValueError: at once, naming the argument
        """
        raise NotImplementedError

    def _ask_for_the_time(self) -> None:
        """Send a request of the kind that is about to be sent: its response says the time at Stripe."""
        next(self.hook.list_events(types=EVENT_TYPES, max_items=1), None)

    def _rows_are_read(self) -> bool:
        """Whether the rows are sessions as they were when they were read, and not snapshots of events."""
        return False

    def _dashboard_filters(self, window: Window) -> Query:
        return ()


class StripeIdentityToObjectStorageOperator(_ToObjectStorageOperator):
    """
    Write the VerificationSessions created in the run's window to one object, one JSON line each, newest first.

    The object appears whole or not at all, and the same run writes the same object again, so clearing the task
    replaces it. A window without sessions writes an empty object.

    The window is half-open, ``[created_gte, created_lt)``: the explicit bounds when given, else the run's data
    interval, else ``window``. Wrong arguments, a wrong key and missing permissions fail the task at once, without
    retries.

    Rows are the sessions as they are when they are read, and sessions change long after they were created. ``as_of`` of
    the result orders the rows of several exports of a session (see :mod:`airflow_provider_stripe_identity.schema`).

    :param destination: URL of the object (templated), e.g.
        ``s3://aws_default@lake/verification_sessions/dt={created_gte:%Y-%m-%d}/sessions.jsonl.gz``: ``{created_gte:…}``
        and ``{created_lt:…}`` are the run's window, without ``lookback``, in UTC, with :meth:`datetime.strftime`'s
        directives. Unlike Jinja's ``data_interval_start`` they are there in every kind of run. A name that ends in
        ``.gz`` is compressed
    :param destination_conn_id: Airflow connection of the object storage, instead of the one in the URL (templated)
    :param stripe_conn_id: Airflow connection of type ``stripe_identity`` (templated)
    :param created_gte: explicit start of the window, with ``created_lt`` (templated)
    :param created_lt: explicit end of the window (templated)
    :param window: length of the window for runs without a data interval of their own; one that leaves time out between
        two runs of the DAG's schedule, as a day does where clocks change, is refused
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
    :param stripe_accounts: connected accounts to read into the one object, one after another: a list of their ids,
        also the result of another task, or ``"connected"`` for all that the platform has when the task runs. Every row
        then has the column ``_stripe_account`` (templated)
    :param skip_unreadable_accounts: leave out the accounts that the key cannot read, and name them in the log and the
        result, instead of failing with the names of all of them
    :param max_concurrency: requests at once, instead of the connection's
    :param settle: how long after its end a window is read, for Stripe's list to be complete; a task that
        starts earlier waits
    :param kwargs: passed to BaseOperator
    :return: ``{"uri", "conn_id", "sessions", "bytes", "created_gte", "created_lt", "oldest", "newest", "statuses",
        "as_of", "requests"}``, and with ``stripe_accounts`` ``{"accounts", "accounts_with_rows", "accounts_skipped",
        "skipped"}``, of which the last names at most ten. ``conn_id`` is the connection of the object storage, None
        without one; ``requests`` is the number sent to Stripe. The times are epoch seconds; every change that was made
        before ``as_of``, by Stripe's clock, is in the rows
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
        destination: str,
        destination_conn_id: str | None = None,
        stripe_conn_id: str = StripeIdentityHook.default_conn_name,
        created_gte: Time | None = None,
        created_lt: Time | None = None,
        window: timedelta | None = None,
        lookback: timedelta = timedelta(0),
        status: str | None = None,
        client_reference_id: str | None = None,
        related_customer: str | None = None,
        related_customer_account: str | None = None,
        expand: Sequence[str] = (),
        fields: Fields = DEFAULT_FIELDS,
        extra_columns: Mapping[str, Any] | None = None,
        stripe_account: str | None = None,
        stripe_accounts: StripeAccounts | None = None,
        skip_unreadable_accounts: bool = False,
        max_concurrency: int | None = None,
        settle: timedelta = SETTLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            destination=destination,
            destination_conn_id=destination_conn_id,
            stripe_conn_id=stripe_conn_id,
            created_gte=created_gte,
            created_lt=created_lt,
            window=window,
            lookback=lookback,
            expand=expand,
            fields=fields,
            extra_columns=extra_columns,
            stripe_account=stripe_account,
            stripe_accounts=stripe_accounts,
            skip_unreadable_accounts=skip_unreadable_accounts,
            max_concurrency=max_concurrency,
            settle=settle,
            **kwargs,
        )
        self.status = status
        self.client_reference_id = client_reference_id
        self.related_customer = related_customer
        self.related_customer_account = related_customer_account

    def _sessions(self, window: Window, accounts: Accounts | None, expected: int) -> Iterable[dict[str, Any]]:
        warn_of_none(log, **self._filters())
        sessions = self.hook.list_verification_sessions(
            **self._filters(),
            created_gte=window.created_gte,
            created_lt=window.created_lt,
            expand=self._expand(),
            expected=expected,
            accounts=accounts,
        )
        return with_progress(sessions, window, accounts=accounts)

    def _filters(self) -> dict[str, Any]:
        return {
            "client_reference_id": self.client_reference_id,
            "related_customer": self.related_customer,
            "related_customer_account": self.related_customer_account,
            "status": self.status,
        }

    def _ask_for_the_time(self) -> None:
        self.hook.list_verification_sessions_page(limit=1)

    def _rows_are_read(self) -> bool:
        return True

    def _dashboard_filters(self, window: Window) -> Query:
        created = {"gte": window.created_gte, "lt": window.created_lt}
        return verification_sessions_query(**self._filters(), created=created)


class StripeIdentityChangesToObjectStorageOperator(_ToObjectStorageOperator):
    """
    Write the VerificationSessions that changed in the run's window to one object, one JSON line each, latest first.

    Changes are Stripe's events of the six ``identity.verification_session.…`` types; the key needs the permission
    *Events: Read*. A row has the form of
    :class:`StripeIdentityToObjectStorageOperator`'s, and the columns ``_event_id``, ``_event_type`` and
    ``_event_created`` of the session's last event in the window. Windows, atomicity and errors are the same too, but
    one that begins more than 30 days ago fails at once: Stripe keeps events no longer.

    The row is the session as that event left it. Stripe makes no event when ``metadata`` is updated or a redaction
    begins; such changes come with the next event.

    Stripe may list an event some minutes after it happened, when the window it belongs to has been read. So each run
    starts ``lookback`` earlier, and writes the changes of those minutes once more; a merge by id makes no difference of
    it. Runs cost that many more events to read: with the default 1 % a day, a quarter an hour.

    :param destination: URL of the object, as in :class:`StripeIdentityToObjectStorageOperator` (templated)
    :param destination_conn_id: Airflow connection of the object storage, instead of the one in the URL (templated)
    :param stripe_conn_id: Airflow connection of type ``stripe_identity`` (templated)
    :param created_gte: explicit start of the window of the events, with ``created_lt`` (templated)
    :param created_lt: explicit end of the window (templated)
    :param window: length of the window for runs without a data interval of their own
    :param lookback: start the window that much earlier, for events that Stripe lists late
    :param refetch: read every changed session again, one request each: the row is then the session as it is now, in
        the connection's API version. A session that is gone is written from its event, and named in the log
    :param expand: paths for Stripe to expand, as in the export, e.g. ``data.verified_outputs``; needs ``refetch``,
        because the events hold nothing expanded
    :param fields: top-level fields to write, or ``"all"``, as in the export
    :param extra_columns: merged into every row, e.g. ``{"_exported_at": "{{ ts }}"}`` (templated)
    :param stripe_account: connected account to read, instead of the connection's (templated)
    :param stripe_accounts: connected accounts to read into the one object, one after another: a list of their ids,
        also the result of another task, or ``"connected"`` for all that the platform has when the task runs. Every row
        then has the column ``_stripe_account`` (templated)
    :param skip_unreadable_accounts: leave out the accounts that the key cannot read, and name them in the log and the
        result, instead of failing with the names of all of them
    :param max_concurrency: requests at once, instead of the connection's
    :param settle: how long after its end a window is read; a task that starts earlier waits
    :param kwargs: passed to BaseOperator
    :return: as in the export. ``created_gte`` and ``created_lt`` are the window of the events, ``oldest`` and
        ``newest`` the creation of the sessions; ``as_of`` is None without ``refetch``: each row is as of its own event
    """

    _event_columns = True

    def __init__(
        self,
        *,
        destination: str,
        destination_conn_id: str | None = None,
        stripe_conn_id: str = StripeIdentityHook.default_conn_name,
        created_gte: Time | None = None,
        created_lt: Time | None = None,
        window: timedelta | None = None,
        lookback: timedelta = LATE_EVENTS,
        refetch: bool = False,
        expand: Sequence[str] = (),
        fields: Fields = DEFAULT_FIELDS,
        extra_columns: Mapping[str, Any] | None = None,
        stripe_account: str | None = None,
        stripe_accounts: StripeAccounts | None = None,
        skip_unreadable_accounts: bool = False,
        max_concurrency: int | None = None,
        settle: timedelta = SETTLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            destination=destination,
            destination_conn_id=destination_conn_id,
            stripe_conn_id=stripe_conn_id,
            created_gte=created_gte,
            created_lt=created_lt,
            window=window,
            lookback=lookback,
            expand=expand,
            fields=fields,
            extra_columns=extra_columns,
            stripe_account=stripe_account,
            stripe_accounts=stripe_accounts,
            skip_unreadable_accounts=skip_unreadable_accounts,
            max_concurrency=max_concurrency,
            settle=settle,
            **kwargs,
        )
        if not refetch and (expand := self._expand()):
            raise ValueError(f"expand: events hold nothing expanded ({', '.join(expand)}); set refetch=True")
        self.refetch = refetch

    def _looking_back(self, window: Window) -> Window:
        return with_late_events(window, self.lookback)

    def _sessions(self, window: Window, accounts: Accounts | None, expected: int) -> Iterable[dict[str, Any]]:
        changed = changed_sessions(self.hook, window, accounts, expected=expected, check_version=not self.refetch)
        if not self.refetch:
            return changed
        return refetched(self.hook, changed, from_the_session_on(self._expand()))

    def _rows_are_read(self) -> bool:
        return self.refetch


class StripeIdentityEventsToObjectStorageOperator(_ToObjectStorageOperator):
    """
    Write every event of VerificationSessions in the run's window to one object, one JSON line each, newest first.

    Stripe shows only how a session is now, and drops its events after 30 days. In a table (see
    :mod:`airflow_provider_stripe_identity.schema.events`) these rows are the history of every session, from the first
    run on. A row has ``_event_id``, ``_event_type`` and ``_event_created``, then the session as that event left it.

    All else is as in :class:`StripeIdentityChangesToObjectStorageOperator`, which writes the last of a session's events
    only: the six ``identity.verification_session.…`` types, the permission *Events: Read*, windows, ``lookback``,
    atomicity, and the failure of a window that begins more than 30 days ago.

    :param destination: URL of the object, as in :class:`StripeIdentityToObjectStorageOperator` (templated)
    :param destination_conn_id: Airflow connection of the object storage, instead of the one in the URL (templated)
    :param stripe_conn_id: Airflow connection of type ``stripe_identity`` (templated)
    :param created_gte: explicit start of the window of the events, with ``created_lt`` (templated)
    :param created_lt: explicit end of the window (templated)
    :param window: length of the window for runs without a data interval of their own
    :param lookback: start the window that much earlier, for events that Stripe lists late
    :param fields: top-level fields of the session to write, or ``"all"``, as in the export; ``verified_outputs`` is not
        in events
    :param extra_columns: merged into every row, e.g. ``{"_exported_at": "{{ ts }}"}`` (templated)
    :param stripe_account: connected account to read, instead of the connection's (templated)
    :param stripe_accounts: connected accounts to read into the one object, one after another: a list of their ids,
        also the result of another task, or ``"connected"`` for all that the platform has when the task runs. Every row
        then has the column ``_stripe_account`` (templated)
    :param skip_unreadable_accounts: leave out the accounts that the key cannot read, and name them in the log and the
        result, instead of failing with the names of all of them
    :param max_concurrency: requests at once, instead of the connection's
    :param settle: how long after its end a window is read; a task that starts earlier waits
    :param kwargs: passed to BaseOperator
    :return: as in the export, with ``events``, the number of rows, instead of ``sessions``. ``created_gte`` and
        ``created_lt`` are the window of the events, ``oldest`` and ``newest`` the creation of their sessions; ``as_of``
        is None: each row is as of its own event
    """

    _event_columns = True
    _rows = "events"

    def __init__(
        self,
        *,
        destination: str,
        destination_conn_id: str | None = None,
        stripe_conn_id: str = StripeIdentityHook.default_conn_name,
        created_gte: Time | None = None,
        created_lt: Time | None = None,
        window: timedelta | None = None,
        lookback: timedelta = LATE_EVENTS,
        fields: Fields = DEFAULT_FIELDS,
        extra_columns: Mapping[str, Any] | None = None,
        stripe_account: str | None = None,
        stripe_accounts: StripeAccounts | None = None,
        skip_unreadable_accounts: bool = False,
        max_concurrency: int | None = None,
        settle: timedelta = SETTLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            destination=destination,
            destination_conn_id=destination_conn_id,
            stripe_conn_id=stripe_conn_id,
            created_gte=created_gte,
            created_lt=created_lt,
            window=window,
            lookback=lookback,
            expand=(),
            fields=fields,
            extra_columns=extra_columns,
            stripe_account=stripe_account,
            stripe_accounts=stripe_accounts,
            skip_unreadable_accounts=skip_unreadable_accounts,
            max_concurrency=max_concurrency,
            settle=settle,
            **kwargs,
        )
        if self._expand():
            raise ValueError("fields: events hold no verified_outputs, which Stripe sends only when they are expanded")

    def _looking_back(self, window: Window) -> Window:
        return with_late_events(window, self.lookback)

    def _sessions(self, window: Window, accounts: Accounts | None, expected: int) -> Iterable[dict[str, Any]]:
        return every_event(self.hook, window, accounts, expected=expected)

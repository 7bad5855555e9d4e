"""Sensors that wait for people at Stripe Identity."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_stripe_identity._airflow.failures import (
    ConnectionLookupError,
    connection_lookup,
    is_permanent,
    permanent_errors_fail_the_task,
    wrong_arguments_fail_the_task,
)
from airflow_provider_stripe_identity._airflow.templates import warn_of_none
from airflow_provider_stripe_identity._airflow.version_compat import AIRFLOW_V_3_2_PLUS, airflow_exceptions, conf
from airflow_provider_stripe_identity._stripe_api.errors import StripeError, in_one_line
from airflow_provider_stripe_identity._stripe_api.parameters import STATUSES, Time, epoch_seconds
from airflow_provider_stripe_identity._waiting.verdict import evaluate
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.links import StripeDashboardLink, dashboard_url

if TYPE_CHECKING:
    from airflow.sdk import Context


class StripeIdentityVerifiedSensor(BaseSensorOperator):
    """
    Wait until the person behind a ``client_reference_id`` is verified.

    Succeeds as soon as one session of the reference is ``verified``; a person may try again, so several sessions may
    share a reference. Fails without retries once there are sessions and all of them are in ``failure_statuses``. No
    session yet, or a status that this version does not know: it waits on. Stripe's transient errors do not end the
    wait; a wrong key or a missing permission does, at once.

    Every check is one request to Stripe (one more for every further 100 sessions of the reference), whatever
    the mode. With ``deferrable=True`` the sensor checks once itself and then waits in the triggerer, where it holds no
    worker slot; ``timeout`` and ``execution_timeout`` count from the sensor's start.

    :param client_reference_id: the reference given to Stripe when the session was created (templated)
    :param stripe_conn_id: Airflow connection of type ``stripe_identity`` (templated)
    :param created_gte: only sessions created then or later count, e.g. ``"{{ dag_run.start_date }}"`` for a new
        verification (templated)
    :param related_customer: only sessions of this Customer count (templated)
    :param stripe_account: connected account to read, instead of the connection's (templated)
    :param failure_statuses: statuses from which verification is no longer expected; ``()`` waits until ``timeout``
    :param deferrable: wait in the triggerer
    :return: ``{"id", "status", "client_reference_id", "created", "livemode", "type", "last_verification_report"}`` of
        the verified session, ``created`` in epoch seconds
    """

    template_fields: Sequence[str] = (
        "client_reference_id",
        "stripe_conn_id",
        "created_gte",
        "related_customer",
        "stripe_account",
    )
    ui_color = "#e6e4ff"
    operator_extra_links = (StripeDashboardLink(),)

    def __init__(
        self,
        *,
        client_reference_id: str,
        stripe_conn_id: str = StripeIdentityHook.default_conn_name,
        created_gte: Time | None = None,
        related_customer: str | None = None,
        stripe_account: str | None = None,
        failure_statuses: Collection[str] = ("canceled",),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(failure_statuses, str) or not {*failure_statuses} <= {*STATUSES} - {"verified"}:
            raise ValueError(
                "failure_statuses must be a list of canceled, processing and requires_input, "
                f"or empty, not {failure_statuses!r}"
            )
        self.client_reference_id = client_reference_id
        self.stripe_conn_id = stripe_conn_id
        self.created_gte = created_gte
        self.related_customer = related_customer
        self.stripe_account = stripe_account
        self.failure_statuses = failure_statuses
        self.deferrable = deferrable
        self._verified: dict[str, Any] | None = None

    def execute(self, context: Context) -> Any:
        """Wait here, or check once and leave the rest to the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        started = time.time()
        done, session = self._check_once(context)
        if done:
            return session
        return self._defer(started)

    def _check_once(self, context: Context) -> tuple[bool, Any]:
        """Return whether the wait is over, and with what: by the base class's rules for fails, skips and timeouts."""
        mode, self.mode = self.mode, "reschedule"  # in which the base class checks once and raises
        try:
            return True, super().execute(context)
        except airflow_exceptions.AirflowRescheduleException:
            return False, None
        finally:
            self.mode = mode

    def poke(self, context: Context) -> PokeReturnValue:
        """Check once."""
        warn_of_none(self.log, client_reference_id=self.client_reference_id, related_customer=self.related_customer)
        with wrong_arguments_fail_the_task(), permanent_errors_fail_the_task():
            created_gte = self._created_gte()
            try:
                with connection_lookup(self.stripe_conn_id):
                    _ = self.hook.client
                verdict = evaluate(
                    self.hook.list_verification_sessions(
                        client_reference_id=self.client_reference_id,
                        created_gte=created_gte,
                        related_customer=self.related_customer,
                    ),
                    failure_statuses=self.failure_statuses,
                    created_gte=created_gte,
                )
            except (ConnectionLookupError, StripeError) as error:
                if is_permanent(error):
                    raise
                self.log.warning("%s - checking again in the next interval", in_one_line(error))
                return PokeReturnValue(is_done=False)
        if verdict.failed:
            raise airflow_exceptions.AirflowFailException(f"{self.client_reference_id}: {verdict.reason}")
        self._verified = verdict.session
        if verdict.session or self.deferrable:
            self.log.info("%s: %s", self.client_reference_id, verdict.reason)
        else:
            self.log.info(
                "%s: %s; checking every %g s%s, at most %s from the start of the task, without a shared poll",
                self.client_reference_id,
                verdict.reason,
                self.poke_interval,
                " at first" if self.exponential_backoff else "",
                timedelta(seconds=self.timeout),
            )
        return PokeReturnValue(is_done=verdict.session is not None, xcom_value=verdict.session)

    @cached_property
    def hook(self) -> StripeIdentityHook:
        """Reads from Stripe."""
        return StripeIdentityHook(self.stripe_conn_id, stripe_account=self.stripe_account)

    def dashboard_url(self) -> str:
        """Return where the Stripe Dashboard shows the verified session; empty until there is one."""
        if self._verified is None:
            return ""
        return dashboard_url(self.hook.client, livemode=self._verified["livemode"], session_id=self._verified["id"])

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on with what the trigger found."""
        if "failed" in event:
            raise airflow_exceptions.AirflowFailException(event["failed"])
        session: dict[str, Any] = event["session"]
        self._verified = session
        self.log.info("%s: session %s is verified", self.client_reference_id, session["id"])
        return session

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Let ``execution_timeout`` end as in the other modes: the task is tried again, unlike after ``timeout``."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except airflow_exceptions.AirflowSkipException:
            raise
        except (airflow_exceptions.AirflowException, airflow_exceptions.TaskDeferralError) as error:
            if not AIRFLOW_V_3_2_PLUS and (self.soft_fail or self.never_fail):
                # There, a timeout did not respect soft_fail, and nothing respected never_fail.
                raise airflow_exceptions.AirflowSkipException(str(error)) from error
            limit = self.execution_timeout
            if (
                isinstance(error, airflow_exceptions.AirflowSensorTimeout)
                and limit
                and limit.total_seconds() < self.timeout
            ):
                raise airflow_exceptions.AirflowTaskTimeout(f"no verdict within execution_timeout ({limit})") from error
            raise

    def _defer(self, started: float) -> NoReturn:
        from airflow_provider_stripe_identity.triggers import StripeIdentityVerifiedTrigger

        limit = self.timeout
        if self.execution_timeout:
            limit = min(limit, self.execution_timeout.total_seconds())
        trigger = StripeIdentityVerifiedTrigger(
            client_reference_id=self.client_reference_id,
            stripe_conn_id=self.stripe_conn_id,
            created_gte=self._created_gte(),
            related_customer=self.related_customer,
            stripe_account=self.stripe_account,
            failure_statuses=self.failure_statuses,
            poke_interval=self.poke_interval,
            exponential_backoff=self.exponential_backoff,
            max_wait=self.max_wait.total_seconds() if self.max_wait else None,
            waiting_since=started,
        )
        self.log.info(
            "%s: waiting in the triggerer until %s at the latest, %s",
            self.client_reference_id,
            datetime.fromtimestamp(started + limit, UTC).isoformat(timespec="seconds"),
            trigger.schedule,
        )
        # Counted from here by Airflow, and from the start of the task by the user.
        timeout = timedelta(seconds=max(limit - (time.time() - started), 0))
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)

    def _created_gte(self) -> int | None:
        return None if self.created_gte is None else epoch_seconds("created_gte", self.created_gte)

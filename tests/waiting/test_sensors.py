"""The sensor judges alike in every mode: waiting in place, rescheduled, and through its trigger."""

from __future__ import annotations

import inspect
import json
import time
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from support.airflow_versions import TaskDeferred, reschedule_in_dag_test, shared_polling

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException, airflow_exceptions
from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor
from airflow_provider_stripe_identity.testing import Fault

CONTEXT = {"ti": SimpleNamespace(get_first_reschedule_date=lambda _: None)}
FAILS_OR_SKIPS = pytest.mark.parametrize(
    ("options", "ends_in"),
    [
        ({}, AirflowFailException),
        ({"soft_fail": True}, airflow_exceptions.AirflowSkipException),
        ({"never_fail": True}, airflow_exceptions.AirflowSkipException),
    ],
    ids=str,
)
MODES = {"poke": {}, "reschedule": {"mode": "reschedule"}, "deferrable": {"deferrable": True}}


class StillWaiting(Exception):  # noqa: N818 - no error
    """The sensor would check again."""


@pytest.fixture
def said(monkeypatch):
    """What the sensor logs."""
    messages: list[str] = []
    note = lambda message, *values: messages.append(message % values)  # noqa: E731
    monkeypatch.setattr(StripeIdentityVerifiedSensor, "log", SimpleNamespace(info=note, warning=note))
    return messages


@pytest.fixture
def check(server, monkeypatch):
    """Run a sensor until its first check is over; ``StillWaiting`` says that it would wait on."""
    pauses = []

    def no_second_check(seconds):
        pauses.append(seconds)
        raise StillWaiting

    clock = SimpleNamespace(sleep=no_second_check, monotonic=time.monotonic)
    monkeypatch.setattr("airflow.sdk.bases.sensor.time", clock)

    def run(mode, **arguments):
        sensor = StripeIdentityVerifiedSensor(
            task_id="wait",
            client_reference_id="user",
            **MODES[mode],
            **{"poke_interval": 5, "timeout": 60, **arguments},
        )
        try:
            return sensor.execute(CONTEXT)
        except (airflow_exceptions.AirflowRescheduleException, TaskDeferred) as error:
            raise StillWaiting from error

    return run


@pytest.mark.parametrize("mode", MODES)
class TestEveryMode:
    def test_a_verified_session_is_returned(self, server, check, mode):
        server.create_session(client_reference_id="user", status="canceled")
        session = server.verify(server.create_session(client_reference_id="user")["id"])
        server.create_session(client_reference_id="another", status="verified")
        assert check(mode) == {
            "id": session["id"],
            "status": "verified",
            "client_reference_id": "user",
            "created": session["created"],
            "livemode": False,
            "type": "document",
            "last_verification_report": session["last_verification_report"],
        }
        assert len(server.requests) == 1
        assert {("client_reference_id", "user"), ("limit", "100")} <= set(server.requests[0].query)

    @pytest.mark.parametrize("status", [None, "requires_input", "processing"])
    def test_it_waits(self, server, check, mode, status):
        if status:
            server.create_session(client_reference_id="user", status=status)
        with pytest.raises(StillWaiting):
            check(mode)

    @FAILS_OR_SKIPS
    def test_all_canceled_fails_without_retries_or_skips(self, server, check, mode, options, ends_in):
        server.create_session(client_reference_id="user", status="canceled")
        with pytest.raises(ends_in):
            check(mode, **options)

    def test_no_failure_statuses_waits_on(self, server, check, mode):
        server.create_session(client_reference_id="user", status="canceled")
        with pytest.raises(StillWaiting):
            check(mode, failure_statuses=())

    def test_sessions_before_created_gte_do_not_count(self, server, check, mode):
        server.create_session(client_reference_id="user", status="verified", created=1_000)
        with pytest.raises(StillWaiting):
            check(mode, created_gte=1_001)
        assert check(mode, created_gte="1970-01-01T00:16:40Z")["created"] == 1_000

    def test_customer_and_account_are_stripes_filters(self, server, check, mode):
        server.create_session(client_reference_id="user", status="verified")
        server.create_session(client_reference_id="user", account="acct_1", related_customer="cus_1")
        server.create_session(client_reference_id="user", account="acct_1", status="verified")
        with pytest.raises(StillWaiting):
            check(mode, stripe_account="acct_1", related_customer="cus_1")
        assert check(mode, stripe_account="acct_1")

    @pytest.mark.parametrize("fault", [Fault.status(503), Fault.reset(), Fault.rate_limited(), Fault.not_json()])
    @pytest.mark.usefixtures("instant_backoff")
    def test_stripes_transient_errors_do_not_end_the_wait(self, server, check, mode, fault, said):
        server.create_session(client_reference_id="user", status="verified")
        server.fault_every(1, fault)
        with pytest.raises(StillWaiting):
            check(mode)
        (warning,) = [message for message in said if "checking again in the next interval" in message]
        assert warning.isprintable(), "in one line"
        server.clear_faults()
        assert check(mode)

    def test_a_look_up_that_fails_does_not_end_the_wait(self, server, check, mode, monkeypatch):
        """A secrets backend that timed out looks like a connection that does not exist."""
        server.create_session(client_reference_id="user", status="verified")
        monkeypatch.delenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT")
        with pytest.raises(StillWaiting):
            check(mode)
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        assert check(mode)

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"host": "https://api.stripe.com "}, "host contains a space"),
            ({"host": "https://127.0.0.1:port"}, "host must be a URL whose port"),
            ({"extra": {"timeout": 1e12}}, "timeout must be"),
            ({"extra": {"stripe_acount": "acct_1"}}, "did you mean stripe_account"),
        ],
        ids=str,
    )
    def test_a_wrong_connection_ends_it_at_once(self, server, check, mode, monkeypatch, fields, named):
        """In no mode it waits for a host that cannot be there."""
        connection = json.loads(server.airflow_connection()) | fields
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
        with pytest.raises(AirflowFailException, match=named):
            check(mode)

    @pytest.mark.parametrize("options", [{}, {"soft_fail": True}], ids=str)
    def test_stripes_permanent_errors_end_it_with_the_hint(self, server, check, mode, options):
        server.api_keys.clear()
        with pytest.raises(airflow_exceptions.AirflowSkipException if options else AirflowFailException) as raised:
            check(mode, **options)
        assert "Check the API key in the connection's password" in str(
            raised.value.__cause__ if options else raised.value
        )
        assert len(server.requests) == 1

    @pytest.mark.parametrize("arguments", [{"client_reference_id": ""}, {"created_gte": "yesterday"}], ids=str)
    def test_a_wrong_argument_ends_it_without_a_request(self, server, check, mode, arguments):
        arguments = {"created_gte": None} | arguments
        reference = arguments.pop("client_reference_id", "user")
        sensor = StripeIdentityVerifiedSensor(task_id="wait", client_reference_id=reference, **MODES[mode], **arguments)
        with pytest.raises(AirflowFailException, match="client_reference_id|created_gte"):
            sensor.execute(CONTEXT)
        assert len(server.requests) == 0

    def test_a_template_without_a_value_is_named(self, server, check, mode, said):
        """It would wait for a person of that name until its timeout."""
        sensor = StripeIdentityVerifiedSensor(task_id="wait", client_reference_id="None", **MODES[mode])
        assert not sensor.poke(CONTEXT).is_done
        assert said[0].startswith("client_reference_id is the text None")

    def test_more_than_a_page_of_sessions(self, server, check, mode):
        server.create_session(client_reference_id="user", status="verified", created=1_000)
        for _ in range(100):
            server.create_session(client_reference_id="user", status="canceled")
        assert check(mode)["created"] == 1_000
        assert len(server.requests) == 2


@pytest.mark.parametrize("statuses", ["canceled", ["verified"], ["cancelled"]])
def test_wrong_failure_statuses_are_refused_when_the_dag_is_parsed(statuses):
    with pytest.raises(ValueError, match="failure_statuses"):
        StripeIdentityVerifiedSensor(task_id="wait", client_reference_id="user", failure_statuses=statuses)


def deferral(**arguments) -> TaskDeferred:
    sensor = StripeIdentityVerifiedSensor(
        task_id="wait", client_reference_id="user", deferrable=True, **{"timeout": 600, **arguments}
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(CONTEXT)
    return deferred.value


class TestDeferral:
    def test_the_trigger_gets_what_the_sensor_has_and_no_secret(self, server):
        before = time.time()
        deferred = deferral(
            created_gte=datetime(2026, 1, 1),
            related_customer="cus_1",
            failure_statuses=("canceled", "requires_input"),
            poke_interval=timedelta(minutes=5),
            exponential_backoff=True,
            max_wait=timedelta(hours=1),
        )
        path, kwargs = deferred.trigger.serialize()
        assert path == "airflow_provider_stripe_identity.triggers.StripeIdentityVerifiedTrigger"
        assert before <= kwargs.pop("waiting_since") <= time.time()
        assert kwargs == {
            "client_reference_id": "user",
            "stripe_conn_id": "stripe_identity_default",
            "created_gte": 1_767_225_600,
            "related_customer": "cus_1",
            "stripe_account": None,
            "failure_statuses": ["canceled", "requires_input"],
            "poke_interval": 300,
            "exponential_backoff": True,
            "max_wait": 3600,
        }
        assert deferred.method_name == "execute_complete"

    @pytest.mark.parametrize(
        ("limits", "seconds"),
        [
            ({}, 600),
            ({"execution_timeout": timedelta(seconds=100)}, 100),
            ({"execution_timeout": timedelta(hours=1)}, 600),
        ],
        ids=str,
    )
    def test_the_shorter_limit_is_the_triggers(self, server, limits, seconds):
        assert seconds - 60 < deferral(**limits).timeout.total_seconds() <= seconds

    def test_the_time_of_the_first_check_counts(self, server):
        server.latency = 0.5
        assert deferral().timeout.total_seconds() < 599.51

    @pytest.mark.parametrize(
        ("options", "ends_in"),
        [
            ({}, airflow_exceptions.AirflowSensorTimeout),
            ({"soft_fail": True}, airflow_exceptions.AirflowSkipException),
            ({"never_fail": True}, airflow_exceptions.AirflowSkipException),
            ({"execution_timeout": timedelta(hours=1)}, airflow_exceptions.AirflowSensorTimeout),
            # As in the other modes, this one alone is tried again.
            ({"execution_timeout": timedelta(seconds=10)}, airflow_exceptions.AirflowTaskTimeout),
            ({"execution_timeout": timedelta(seconds=10), "soft_fail": True}, airflow_exceptions.AirflowSkipException),
        ],
        ids=str,
    )
    def test_a_timeout_ends_as_in_the_other_modes(self, options, ends_in):
        sensor = StripeIdentityVerifiedSensor(task_id="wait", client_reference_id="user", timeout=60, **options)
        with pytest.raises(ends_in):
            sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, {})

    @FAILS_OR_SKIPS
    def test_a_failure_found_by_the_trigger(self, options, ends_in):
        sensor = StripeIdentityVerifiedSensor(task_id="wait", client_reference_id="user", **options)
        with pytest.raises(ends_in):
            sensor.resume_execution("execute_complete", {"event": {"failed": "all canceled"}}, {})

    def test_the_triggers_session_is_returned(self):
        sensor = StripeIdentityVerifiedSensor(task_id="wait", client_reference_id="user")
        assert sensor.resume_execution("execute_complete", {"event": {"session": {"id": "vs_1"}}}, {}) == {"id": "vs_1"}


DAG_FILE = """
from airflow.sdk import DAG, task
from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor

with DAG("waits", schedule=None):
    StripeIdentityVerifiedSensor(
        task_id="wait", client_reference_id="{{{{ dag_run.conf['reference'] }}}}", poke_interval=1, **{options}
    )
"""


@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=reschedule_in_dag_test if mode == "reschedule" else ()) for mode in MODES]
)
def test_a_dag_goes_on_when_the_person_is_verified_meanwhile(server, run_dag_file, mode):
    """The second check finds what the first one did not."""
    session = server.create_session(client_reference_id="user_1")
    checks = iter([None, None])

    def verify_before_the_second_check(request):
        if next(checks, "later") == "later":
            server.verify(session["id"])

    server.before_answer = verify_before_the_second_check
    run = run_dag_file(DAG_FILE.format(options=MODES[mode]), run_conf={"reference": "user_1"})
    assert run.state == "success"
    (task_instance,) = run.get_task_instances()
    assert task_instance.xcom_pull(task_ids="wait")["id"] == session["id"]
    assert len(server.requests) == 3


@shared_polling
def test_dag_test_does_not_look_at_the_timeout_of_a_deferral(server, run_dag_file):
    """Airflow's own, in 3.3; docs/waiting.md says so, until this test fails."""
    session = server.create_session(client_reference_id="user_1")
    on_the_triggers_first_check = iter([None])

    def verify(request):
        if next(on_the_triggers_first_check, "triggers") == "triggers":
            server.verify(session["id"])

    server.before_answer = verify
    options = {"deferrable": True, "timeout": 2}  # the trigger's first check is after ten seconds
    run = run_dag_file(DAG_FILE.format(options=options), run_conf={"reference": "user_1"})
    assert run.state == "success"


def test_everything_that_a_user_may_template_is_templated():
    """All but the options of the wait itself."""
    arguments = set(inspect.signature(StripeIdentityVerifiedSensor.__init__).parameters) - {"self", "kwargs"}
    assert set(StripeIdentityVerifiedSensor.template_fields) == arguments - {"failure_statuses", "deferrable"}

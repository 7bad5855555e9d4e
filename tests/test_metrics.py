"""Airflow's metrics, with Airflow's own StatsD client and a socket that listens as StatsD does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from airflow_provider_stripe_identity._airflow import metrics
from airflow_provider_stripe_identity._airflow.version_compat import AIRFLOW_V_3_2_PLUS
from airflow_provider_stripe_identity.testing import Fault

START = 1_700_000_000
#: As Airflow sets up its metrics in a task, and in the triggerer or the api-server; before 3.2 they are one.
SET_UP = """
import contextlib
with contextlib.suppress(ImportError):
    from {package}.observability.metrics import stats_utils
    from {package}.observability.stats import Stats
    try:
        Stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
    except TypeError:
        Stats.initialize(factory=stats_utils.get_stats_factory(Stats))
"""
EXPORT = """
from airflow_provider_stripe_identity._stripe_api import client
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator
client.FIRST_BACKOFF = 0
task = StripeIdentityToObjectStorageOperator(
    task_id="export", destination=DESTINATION, created_gte=1_700_000_000, created_lt=1_700_086_400
)
task.execute({})
"""
LIST = """
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
StripeIdentityHook().list_verification_sessions_page()
"""


@pytest.fixture
def statsd() -> Iterator[Callable[..., list[str]]]:
    """Return a function that runs a script with Airflow's metrics on, and returns those of this package."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)

        def received() -> Iterator[str]:
            while True:
                try:
                    yield from listening.recv(65536).decode().splitlines()
                except BlockingIOError:
                    return

        def run(script: str, **environment: str) -> list[str]:
            on = {
                "AIRFLOW__METRICS__STATSD_ON": "True",
                "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
                "AIRFLOW__METRICS__STATSD_PORT": str(listening.getsockname()[1]),
                "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            }
            subprocess.run([sys.executable, "-c", script], env=os.environ | on | environment, check=True, timeout=100)
            return [line for line in received() if "stripe_identity" in line]

        yield run


def test_an_export_sends_them(server, statsd, tmp_path):
    for number in range(3):
        server.create_session(created=START + number, client_reference_id=f"user_{number}")
    server.inject(Fault.rate_limited(), Fault.status(500))
    destination = f"DESTINATION = 'file://{tmp_path}/sessions.jsonl'"
    seen = statsd(SET_UP.format(package="airflow.sdk") + destination + EXPORT)
    tag, prefix = ",conn_id=stripe_identity_default", "airflow.stripe_identity"
    *counted, took = seen
    assert took.startswith(f"{prefix}.export.duration{tag}:")
    assert float(took.split(":")[1].removesuffix("|ms")) > 0
    names = [line.removeprefix(prefix + ".").split(",")[0] for line in counted]
    assert names.count("requests") == len(server.requests)
    assert names.count("retries") == 2
    assert names.count("rate_limited") == 1
    assert counted[-1] == f"{prefix}.sessions{tag}:3|c"
    assert all(tag in line for line in seen)
    assert not any("user_" in line or server.api_key in line for line in seen)


@pytest.mark.parametrize("package", ["airflow.sdk", "airflow"])
def test_every_process_sends_them(server, statsd, package):
    if package == "airflow" and not AIRFLOW_V_3_2_PLUS:
        pytest.skip("Before 3.2 Airflow has one set of metrics")
    seen = statsd(SET_UP.format(package=package) + LIST)
    assert seen == ["airflow.stripe_identity.requests,conn_id=stripe_identity_default:1|c"]


def test_metrics_that_fail_are_said_once_and_stop_nothing(server, hook, monkeypatch, caplog):
    def broken() -> None:
        raise OSError("the exporter is gone")

    metrics._warn_once.cache_clear()
    monkeypatch.setattr(metrics, "_stats", broken)
    assert hook.list_verification_sessions_page()["object"] == "list"
    assert hook.list_verification_sessions_page()["object"] == "list"
    assert [record.getMessage() for record in caplog.records if "metrics" in record.getMessage()] == [
        "Airflow's metrics do not take those of Stripe Identity (OSError); nothing else is affected"
    ]

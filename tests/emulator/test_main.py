"""The command line, and the pytest fixture."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time

import pytest
import requests

from airflow_provider_stripe_identity.testing import StripeIdentityServer
from airflow_provider_stripe_identity.testing.api import SESSIONS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_told_to_stop(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "airflow_provider_stripe_identity.testing", "--port", "0", "--sessions", "25"]
    command += ["--days", "2", "--end", "2026-09-03T00:00:00", "--path-prefix", "/stripe", "--api-key", "sk_test_mine"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            export, variable = shlex.split(process.stdout.readline())
            name, _, value = variable.partition("=")
            connection = json.loads(value)
            assert (export, name) == ("export", "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT")
            assert connection == {"conn_type": "stripe_identity", "host": url, "password": "sk_test_mine"}
            with requests.Session() as session:
                session.trust_env = False
                page = session.get(f"{url}{SESSIONS}?limit=100", auth=("sk_test_mine", "")).json()
            assert len(page["data"]) == 25
            midnight = 1_788_393_600  # 2026-09-03T00:00:00Z
            assert all(midnight - 2 * 86400 <= session["created"] < midnight for session in page["data"])
            process.send_signal(number)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def test_fixture_serves(stripe_identity_server: StripeIdentityServer) -> None:
    url = f"{stripe_identity_server.url}{SESSIONS}"
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(url, auth=(stripe_identity_server.api_key, "")).json()["data"] == []


def program(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "airflow_provider_stripe_identity.testing", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_busy_port_is_one_line(stripe_identity_server: StripeIdentityServer) -> None:
    with program("--port", str(stripe_identity_server.port), "--sessions", "1") as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.count("\n") == 1
    assert f"Port {stripe_identity_server.port} of 127.0.0.1 is in use" in said


def test_whole_past_days_and_a_key_without_events() -> None:
    options = ["--port", "0", "--sessions", "400", "--days", "2", "--key-without-events", "rk_test_sessions"]
    with program(*options) as process, requests.Session() as session:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            session.trust_env, session.auth = False, ("rk_test_sessions", "")
            midnight = int(time.time()) // 86400 * 86400
            for day in (1, 2):  # the first hours of both days, too, whatever the time is now
                start = midnight - day * 86400
                window = {"created[gte]": str(start), "created[lt]": str(start + 6 * 3600)}
                assert session.get(f"{url}{SESSIONS}", params=window).json()["data"]
            refused = session.get(f"{url}/v1/events").json()["error"]
        finally:
            process.terminate()
    assert "rak_event_read" in refused["message"]

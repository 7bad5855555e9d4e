"""The command line, and the pytest fixture."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys

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

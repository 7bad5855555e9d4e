"""Every code block of the README does what the README says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow_versions import AIRFLOW, cli_of_providers
from packaging.version import Version

from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.jsonl import DEFAULT_FIELDS

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
RUN = {
    "console": "test_the_commands_are_targets_of_make",
    "bash": "test_every_way_to_make_the_connection",
    "json": "test_the_result_is_what_the_task_returns",
    "python": "test_python",
    "shell": "test_the_command_line",
}
YESTERDAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)


def blocks(language: str) -> list[str]:
    found = [text for kind, text in BLOCKS if kind == language]
    assert found
    return found


def test_every_block_is_run():
    assert {kind for kind, _ in BLOCKS} == RUN.keys()


def test_the_commands_are_targets_of_make():
    for line in blocks("console")[0].splitlines():
        command = line.removeprefix("$ ").split("#")[0].split()
        subprocess.run([*command, "--dry-run"], cwd=ROOT, check=True, capture_output=True)
    for target in set(re.findall(r"`make ([\w-]+)", (ROOT / "README.md").read_text())):
        subprocess.run(["make", target, "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_the_versions_are_the_pinned_ones():
    text = (ROOT / "README.md").read_text()
    for constraints, sentence in (
        ("constraints.txt", r"checks and tests on Airflow ([\d.]+\d)"),
        ("constraints-oldest.txt", r"oldest supported Airflow, ([\d.]+\d)"),
    ):
        assert f"apache-airflow=={re.search(sentence, text)[1]}\n" in (ROOT / constraints).read_text()


def test_every_picture_is_there():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)


# Those of the object stores are used by tests/stores.
@pytest.mark.parametrize("block", [block for block in blocks("bash") if "STRIPE_IDENTITY" in block])
def test_every_way_to_make_the_connection(block, tmp_path, monkeypatch):
    """Run the block in a shell, take the connection that it made, and ask the hook what it would use."""
    name = "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT"
    script = f"{block}\nprintenv {name} > made"
    if block.startswith("airflow"):
        script = f"airflow db migrate\n{block}\nairflow connections export made --file-format json"
    environment = {
        "AIRFLOW_HOME": str(tmp_path),
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "STRIPE_API_KEY": "rk_test_readme",
    }
    subprocess.run(["bash", "-euc", script], env=environment, cwd=tmp_path, check=True, capture_output=True)
    made = (tmp_path / "made").read_text().rstrip("\n")
    monkeypatch.setenv(
        name, json.dumps(json.loads(made)["stripe_identity_default"]) if "export made" in script else made
    )
    client = StripeIdentityHook().client
    used = (client.base_url, client._auth._api_key, client.headers.get("Stripe-Account"), client._timeout)
    if "gateway" in block:
        assert used == ("https://gateway.example.com/stripe", None, None, 60)
    elif "acct_123" in block:
        assert used == ("https://api.stripe.com", "rk_test_readme", "acct_123", 30)
    else:
        assert used == ("https://api.stripe.com", "rk_test_readme", None, 60)


@cli_of_providers
@pytest.mark.parametrize("line", blocks("shell")[0].splitlines())
def test_the_command_line(line, server, capsys):
    from airflow.cli.cli_parser import get_parser

    session = server.create_session(client_reference_id="user_123", created=datetime(2026, 1, 15, tzinfo=UTC))
    line = line.replace("vs_1NuNAILkdIwHu7ixh7OtGMLw", session["id"])
    args = get_parser().parse_args(line.removeprefix("airflow ").split())
    if "emulator" in line:  # would serve until it is told to stop
        assert args.sessions == 1000
        return
    args.func(args)
    shown = {
        "check": "Connected",
        "curl": "client_reference_id=user_123",
        "raw.verification_sessions": "CREATE TABLE IF NOT EXISTS raw.verification_sessions",
    }
    assert shown.get(line.split()[-1], session["id"]) in capsys.readouterr().out


@pytest.fixture
def lake(server):
    """Yesterday's sessions on the server, and an empty place where the README's DAGs write."""
    server.populate(40, YESTERDAY, YESTERDAY + timedelta(days=1))
    server.verify(server.create_session(client_reference_id="user_123")["id"])
    return server


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: re.search(r"(?:DAG\(\"|def )(\w+)", block)[1])
def test_python(block, lake, tmp_path, monkeypatch, run_dag_file):
    block = block.replace("/tmp/lake", str(tmp_path))
    if "def test_" in block:
        names: dict = {}
        exec(block, names)
        names["test_my_task"](monkeypatch)
        return
    if Version("3.2") > AIRFLOW:  # as the table of versions says
        block = block.replace(
            "from airflow.sdk import CronDataIntervalTimetable, DAG",
            "from airflow.sdk import DAG\nfrom airflow.timetables.interval import CronDataIntervalTimetable",
        )
    run = run_dag_file(block, logical_date=YESTERDAY + timedelta(days=1))
    assert run.state == "success"
    if "destination" in block:
        (path,) = (file for file in tmp_path.rglob("*") if file.is_file())
        day = YESTERDAY.date() if "data_interval_start" in block else (YESTERDAY + timedelta(days=1)).date()
        assert path.parent.name in (f"dt={day}", f"before={day}")


def test_the_result_is_what_the_task_returns(lake, tmp_path):
    from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

    shown = json.loads(blocks("json")[0])
    result = StripeIdentityToObjectStorageOperator(
        task_id="export",
        destination=(tmp_path / "x.jsonl").as_uri(),
        created_gte=YESTERDAY,
        created_lt=YESTERDAY + timedelta(days=1),
    ).execute({})
    assert {name: type(value) for name, value in shown.items()} == {name: type(value) for name, value in result.items()}


def test_every_figure_of_the_speed_is_one_that_the_benchmark_prints():
    """The figures are a run's; what is measured, and the names, are the benchmark's."""
    benchmark = (ROOT / "tests" / "benchmarks" / "export.py").read_text()
    for text in ("24 requests/s", "8 at once", "80 % in 1 %", "CPU of the export", "Peak memory of 250,000 sessions"):
        assert text in benchmark


def test_the_default_fields_are_the_ones_listed():
    listed = re.search(r"By default `([^`]*)`", (ROOT / "README.md").read_text())[1].split()
    assert tuple(listed) == DEFAULT_FIELDS


def test_the_sensors_costs_are_what_the_intervals_make():
    """One request a check: the table is 30 days divided by the interval."""
    rows = re.findall(
        r"^\| (\d+) (minute|hour)s?\b[^|]*\| ([\d,]+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 4
    for number, unit, requests in rows:
        interval = timedelta(**{f"{unit}s": int(number)})
        assert timedelta(days=30) / interval == int(requests.replace(",", ""))

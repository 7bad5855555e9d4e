"""
Every code block of README and docs is run: this module says how, by its language.

* ``python`` with a DAG: through ``dag.test()``; with a test: through pytest; any other: as a script in a task's place
* ``bash``: in a shell. What it exports as a connection of type ``stripe_identity`` must make a client
* ``shell``: every line is a command of ``airflow``, run against the emulator
* ``console``: ``$ make …`` lines are targets of the Makefile
* ``json``, ``toml``, ``ini``: it parses
* ``text`` is a drawing or some output, nothing to run

A block that is run by a test of its own is named in :data:`ELSEWHERE`.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from packaging.version import Version
from support.airflow_versions import AIRFLOW, cli_of_providers
from support.pages import BLOCKS, Block, blocks
from support.paths import ROOT

from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.testing import StripeIdentityServer

YESTERDAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
CONNECTION = "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT"
RUN_HERE = {"python", "bash", "shell", "console", "json", "toml", "ini", "text"}
#: Page and language, and the test module that runs these blocks.
ELSEWHERE = {
    ("README.md", "bash", "pip install"): "tests/e2e/test_package.py",
    ("docs/quickstart.md", "bash", ""): "tests/e2e/test_quickstart.py",
    ("docs/history.md", "sql", "verification_session_"): "tests/test_history.py",
    ("docs/object-storage.md", "bash", "AIRFLOW_CONN_AWS_LAKE"): "tests/stores/test_store_contract.py",
}


def run_here(language: str) -> list[Block]:
    return [
        block
        for block in blocks(language)
        if not any((block.page, language) == key[:2] and key[2] in block.text for key in ELSEWHERE)
    ]


def test_every_block_is_run():
    claimed = {key[1] for key in ELSEWHERE}
    assert {block.language for block in BLOCKS} <= RUN_HERE | claimed
    for (page, language, mark), module in ELSEWHERE.items():
        assert any(mark in block.text for block in blocks(language, page)), (page, mark)
        assert (ROOT / module).is_file()


@pytest.mark.parametrize("block", run_here("json"), ids=str)
def test_json(block):
    json.loads(block.text)


@pytest.mark.parametrize("block", run_here("toml"), ids=str)
def test_toml(block):
    tomllib.loads(block.text)


@pytest.mark.parametrize("block", run_here("ini"), ids=str)
def test_ini(block):
    configparser.ConfigParser(interpolation=None).read_string(block.text)


@pytest.mark.parametrize("block", run_here("console"), ids=str)
def test_console(block):
    commands = [line.removeprefix("$ ").split("#")[0].split() for line in block.text.splitlines() if line[:2] == "$ "]
    assert commands
    for command in commands:
        assert command[0] == "make"
        subprocess.run([*command, "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(tmp_path),
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "STRIPE_API_KEY": "rk_test_docs",
        "NO_PROXY": "127.0.0.1,localhost",
    }


@pytest.mark.parametrize("block", run_here("bash"), ids=str)
def test_bash(block, environment, server, tmp_path, monkeypatch):
    """Run it; where it makes a connection, ask the hook what it would use."""
    script = block.text
    if "airflow connections add" in script:
        script = f"airflow db migrate\n{script}\nairflow connections export made --file-format json"
    elif makes := re.search(r"export (AIRFLOW_CONN_\w+)=.*stripe.identity", script):
        script += f"\nprintenv {makes[1]} > made"
    else:
        environment[CONNECTION] = server.airflow_connection()
    subprocess.run(["bash", "-euc", script], env=environment, cwd=tmp_path, check=True, capture_output=True)
    if not (tmp_path / "made").exists():
        return
    made = (tmp_path / "made").read_text().rstrip("\n")
    if "airflow connections add" in script:
        made = json.dumps(json.loads(made)["stripe_identity_default"])
    monkeypatch.setenv(CONNECTION, made)
    client = StripeIdentityHook().client
    assert client.has_key == ("STRIPE_API_KEY" in block.text)
    assert client.base_url == (
        "https://gateway.example.com/stripe" if "gateway" in block.text else "https://api.stripe.com"
    )
    for account in re.findall(r"acct_\w+", block.text):
        assert client.headers["Stripe-Account"] == account


LINES = [pytest.param(line, id=f"{block}: {line}") for block in run_here("shell") for line in block.text.splitlines()]


@cli_of_providers
@pytest.mark.parametrize("line", [line for line in LINES if "airflow stripe-identity" in str(line.values[0])])
def test_shell(line, server, capsys):
    from airflow.cli.cli_parser import get_parser

    session = server.create_session(client_reference_id="user_123", created=datetime(2026, 1, 15, tzinfo=UTC))
    line = line.split("#")[0].replace("vs_1NuNAILkdIwHu7ixh7OtGMLw", session["id"])
    args = get_parser().parse_args(line.removeprefix("airflow ").split())
    if "emulator" in line:  # would serve until it is stopped
        return
    args.func(args)
    assert capsys.readouterr().out


@pytest.fixture
def lake(server: StripeIdentityServer) -> StripeIdentityServer:
    """Yesterday's sessions in the emulator, one of them the person that the pages wait for, and two accounts."""
    server.populate(40, YESTERDAY, YESTERDAY + timedelta(days=1))
    server.verify(server.create_session(client_reference_id="user_123")["id"])
    for account in ("acct_1", "acct_2"):
        server.populate(5, YESTERDAY, YESTERDAY + timedelta(days=1), account=account)
    return server


@pytest.mark.parametrize("block", run_here("python"), ids=str)
def test_python(block, lake, environment, tmp_path, run_dag_file, monkeypatch, request):
    text = block.text.replace("/tmp/lake", str(tmp_path))
    if "postgres_default" in text:
        monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", request.getfixturevalue("postgres"))
    if re.search(r"^def test_", text, re.MULTILINE):
        (tmp_path / "test_docs.py").write_text(text)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_docs.py"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        return
    if Version("3.2") > AIRFLOW:  # as the table of versions says
        text = text.replace(
            "from airflow.sdk import CronDataIntervalTimetable, ",
            "from airflow.timetables.interval import CronDataIntervalTimetable\nfrom airflow.sdk import ",
        ).replace(
            "from airflow.sdk import DAG, CronDataIntervalTimetable",
            "from airflow.timetables.interval import CronDataIntervalTimetable\nfrom airflow.sdk import DAG",
        )
    if not re.search(r"\bDAG\(|@dag\b", text):
        exec(compile(text, str(block), "exec"), {})
        return
    run = run_dag_file(text, logical_date=YESTERDAY + timedelta(days=1))
    assert run.state == "success"
    written = [path.read_bytes() for path in tmp_path.rglob("*.jsonl*")]
    assert bool(written) == ("destination" in text)
    assert all(written)

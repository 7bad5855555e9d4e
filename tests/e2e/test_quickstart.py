"""The quick start by somebody who has only the wheel: a fresh environment, the emulator, a first object."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from support.pages import blocks
from support.paths import ROOT

PAGE = "docs/quickstart.md"


@pytest.mark.timeout(900)
def test_the_steps_lead_to_a_first_object(tmp_path):
    install, start, run, look = (block.text for block in blocks("bash", PAGE))
    (dag,) = (block.text for block in blocks("python", PAGE))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "PYTHON"))}
    environment["NO_PROXY"] = "127.0.0.1,localhost"

    def shell(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", script.replace("/tmp/lake", str(tmp_path / "lake"))],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    constraints = ROOT / "constraints" / "airflow-3.3.txt"
    shell(
        install.replace("python3", sys.executable).replace(
            "install airflow-provider-stripe-identity", f"install --quiet --constraint {constraints} {wheel}"
        )
    )
    command = [*start.split(), "--port", "0"]  # a free one, where the page has the default
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as emulator:
        try:
            export = next(line for line in emulator.stdout if line.startswith("export AIRFLOW_CONN"))
            path = tmp_path / re.search(r"Save as `([^`]+)`", (ROOT / PAGE).read_text())[1]
            path.parent.mkdir(parents=True)
            path.write_text(dag.replace("/tmp/lake", str(tmp_path / "lake")))
            log = shell(export + run)
        finally:
            emulator.terminate()
    assert '"id":"vs_' in shell(look).replace(" ", "")
    (written,) = (tmp_path / "lake").rglob("sessions.jsonl.gz")
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    rows = [json.loads(line) for line in gzip.decompress(written.read_bytes()).splitlines()]
    assert rows
    assert written.parent.name in {f"dt={yesterday}", f"dt={yesterday - timedelta(days=1)}"}  # over midnight
    assert f"Wrote {len(rows)} sessions" in log

"""What README and docs say is what the project does."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta

from support.pages import PAGES, blocks
from support.paths import ROOT

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS

YESTERDAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)


def test_the_commands_are_targets_of_make():
    targets = {target for page in PAGES for target in re.findall(r"`make ([a-z][\w-]*)", page.read_text())}
    assert targets
    for target in targets:
        subprocess.run(["make", target, "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_the_readme_shows_the_demos_report_and_is_short():
    text = (ROOT / "README.md").read_text()
    assert "](docs/demo.png)" in text
    assert len(text.splitlines()) <= 130


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text()
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} - {"docs/index.md"}
    assert {page for page in pages if f"]({page})" not in text} == set()


def test_the_result_is_what_the_task_returns(server, tmp_path):
    from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

    shown = json.loads(blocks("json", "docs/export.md")[0].text)
    server.populate(40, YESTERDAY, YESTERDAY + timedelta(days=1))
    result = StripeIdentityToObjectStorageOperator(
        task_id="export",
        destination=(tmp_path / "x.jsonl").as_uri(),
        created_gte=YESTERDAY,
        created_lt=YESTERDAY + timedelta(days=1),
    ).execute({})
    assert shown.pop("conn_id"), "the page shows a store with a connection"
    assert result.pop("conn_id") is None
    assert {name: type(value) for name, value in shown.items()} == {name: type(value) for name, value in result.items()}


def test_every_figure_of_the_speed_is_one_that_the_benchmark_prints():
    """The figures are a run's; what is measured, and the names, are the benchmark's."""
    benchmark = (ROOT / "tests" / "benchmarks" / "export.py").read_text()
    for text in ("24 requests/s", "8 at once", "80 % in 1 %", "CPU of the export", "Peak memory of 250,000 sessions"):
        assert text in benchmark


def test_the_default_fields_are_the_ones_listed():
    listed = re.search(r"By default `([^`]*)`", (ROOT / "docs" / "export.md").read_text())[1].split()
    assert tuple(listed) == DEFAULT_FIELDS


def test_the_sensors_costs_are_what_the_intervals_make():
    """One request a check: the table is 30 days divided by the interval."""
    rows = re.findall(
        r"^\| (\d+) (minute|hour)s?\b[^|]*\| ([\d,]+) \|$", (ROOT / "docs" / "waiting.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 4
    for number, unit, requests in rows:
        interval = timedelta(**{f"{unit}s": int(number)})
        assert timedelta(days=30) / interval == int(requests.replace(",", ""))

"""The pinned sets: of what they consist, and that the tests run on what they pin."""

from __future__ import annotations

import re
from importlib import metadata

import pytest
from support.paths import ROOT

SETS = sorted((ROOT / "constraints").glob("*.txt"))
PIN = re.compile(r"([\w.-]+)==([\w.]+)")


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)
def test_a_set_is_names_and_versions_only(path):
    pins = [PIN.fullmatch(line) for line in path.read_text().splitlines()]
    assert all(pins)
    names = [re.sub(r"[-_.]+", "-", pin[1]).lower() for pin in pins]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("name", ["apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk"])
def test_the_tests_run_on_the_pinned_airflow(name):
    """No other package brought another Airflow along."""
    minor = ".".join(metadata.version("apache-airflow").split(".")[:2])
    pinned = dict(PIN.findall((ROOT / "constraints" / f"airflow-{minor}.txt").read_text()))
    assert metadata.version(name) == pinned[name]

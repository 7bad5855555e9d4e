"""
The unit suite on every Airflow that this package supports, and on every Python that this machine has.

``make test-matrix`` runs all of them. ``--ci`` leaves out what says little more: it runs every older Airflow on the
oldest Python alone, and the newest Airflow on the Pythons that ``make test`` does not use. With ``--minutes`` nothing
is begun that would end after that time, as far as those before it tell; the ends of the ranges come first, and what was
left out is named. ``--write`` puts the table into docs/compatibility.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from support.paths import ROOT

#: The Pythons that each Airflow supports, by its own metadata, as far as this package does.
AIRFLOWS = {
    "3.0": ("3.11", "3.12"),
    "3.1": ("3.11", "3.12", "3.13"),
    "3.2": ("3.11", "3.12", "3.13", "3.14"),
    "3.3": ("3.11", "3.12", "3.13", "3.14"),
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
NEWEST = "3.3"
#: What says most comes first: the oldest Airflow, then the newest Airflow on the newest Python.
FIRST = (("3.0", "3.11"), ("3.3", "3.13"), ("3.2", "3.11"), ("3.1", "3.11"), ("3.3", "3.12"))
OURS = f"{sys.version_info.major}.{sys.version_info.minor}"
PAGE = ROOT / "docs" / "compatibility.md"


def interpreter(python: str) -> str | None:
    """Return the command of a Python, from the path or from pyenv; None where this machine has none."""
    found = [shutil.which(f"python{python}")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += [str(path) for path in sorted(pyenv.glob(f"{python}.*/bin/python{python}"), reverse=True)]
    for command in filter(None, found):
        # A shim of pyenv is on the path for versions that are not switched on, and fails.
        if subprocess.run([command, "--version"], check=False, capture_output=True).returncode == 0:
            return command
    return None


def environment_of(airflow: str, python: str) -> Path:
    return ROOT / f".venv-{airflow}-py{python}"


def constraints_of(airflow: str) -> Path:
    return ROOT / "constraints" / f"airflow-{airflow}.txt"


def install(airflow: str, python: str, command: str) -> None:
    """Make the environment, unless there is one that is newer than its pins."""
    environment, constraints = environment_of(airflow, python), constraints_of(airflow)
    pip = [environment / "bin" / "pip", "install", "--quiet", "--constraint", constraints]
    installed = environment / ".installed"
    if not installed.exists() or installed.stat().st_mtime < max(
        constraints.stat().st_mtime, (ROOT / "pyproject.toml").stat().st_mtime
    ):
        subprocess.run([command, "-m", "venv", "--clear", environment], check=True)
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        subprocess.run([*pip, "--no-compile", "--editable", ROOT, "--group", "test"], cwd=ROOT, check=True)
        installed.touch()


def run(airflow: str, python: str) -> str:
    """Run the suite in its environment and return its outcome."""
    environment = environment_of(airflow, python)
    report = environment / "report.xml"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    subprocess.run(
        [environment / "bin" / "pytest", "-n", "2", "--junitxml", report, "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        check=False,
    )
    found = outcome(report)
    pinned = re.search(r"^apache-airflow==(\S+)$", constraints_of(airflow).read_text(), re.MULTILINE)
    assert pinned
    print(f"Airflow {pinned[1]}, Python {python}: {found} in {time.monotonic() - began:.0f} s", flush=True)
    return found


def outcome(report: Path) -> str:
    """Return what a report of pytest counts."""
    suite = ElementTree.parse(report).getroot()[0]
    number = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    wrong = number["failures"] + number["errors"]
    passed = number["tests"] - wrong - number["skipped"]
    text = f"{passed:,} passed" + (f", {number['skipped']} left out" if number["skipped"] else "")
    return text + (f", **{wrong} failed**" if wrong else "")


def table(outcomes: dict[tuple[str, str], str]) -> str:
    lines = ["| Python | " + " | ".join(f"Airflow {airflow}" for airflow in AIRFLOWS) + " |", "|---" * 5 + "|"]
    for python in PYTHONS:
        cells = [
            outcomes.get((airflow, python), "not run") if python in AIRFLOWS[airflow] else "not supported by Airflow"
            for airflow in AIRFLOWS
        ]
        lines.append(f"| {python} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ci", action="store_true", help="the part that says most")
    parser.add_argument("--minutes", type=float, help="begin nothing that would end later")
    parser.add_argument("--write", action="store_true", help="put the table into docs/compatibility.md")
    args = parser.parse_args()
    began = time.monotonic()
    outcomes: dict[tuple[str, str], str] = {}
    pairs = [(airflow, python) for airflow, pythons in AIRFLOWS.items() for python in pythons]
    if args.ci:
        pairs = [
            (airflow, python)
            for airflow, python in pairs
            if (python != OURS if airflow == NEWEST else python == AIRFLOWS[airflow][0])
        ]
        pairs.sort(key=lambda pair: FIRST.index(pair) if pair in FIRST else len(FIRST))
    commands = {python: interpreter(python) for python in PYTHONS}
    outcomes |= {pair: "not run, no such Python here" for pair in pairs if commands[pair[1]] is None}
    waiting = deque(pair for pair in pairs if pair not in outcomes)
    with ThreadPoolExecutor(max_workers=1) as installer:
        # The next environment is made while the tests of this one run.
        installed: deque[Future[None]] = deque()
        longest = 0.0
        while waiting:
            started = time.monotonic()
            if args.minutes is not None and started + longest > began + 60 * args.minutes:
                outcomes |= dict.fromkeys(waiting, "not run, no time left")
                break
            for airflow, python in list(waiting)[len(installed) : 2]:
                installed.append(installer.submit(install, airflow, python, str(commands[python])))
            pair = waiting.popleft()
            installed.popleft().result()
            outcomes[pair] = run(*pair)
            longest = max(longest, time.monotonic() - started)
    for (airflow, python), found in outcomes.items():
        if found.startswith("not run"):
            print(f"Airflow {airflow}, Python {python}: {found}")
    if args.ci:
        outcomes.setdefault((NEWEST, OURS), "`make test`")
    result = table(outcomes)
    print(f"\n{result}")
    if args.write:
        text = PAGE.read_text()
        PAGE.write_text(re.sub(r"(?<=<!-- matrix -->\n).*?(?=\n<!-- /matrix -->)", result, text, flags=re.DOTALL))
    if any("failed" in outcome for outcome in outcomes.values()):
        sys.exit("some failed")


if __name__ == "__main__":
    main()

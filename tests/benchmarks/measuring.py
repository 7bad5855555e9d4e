"""What the benchmarks share: a measurement in a process of its own, and the table of all of them."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any


def measured(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script in a process of its own; return what it printed of :func:`measure`."""
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(do: Callable[[], Mapping[str, Any] | None]) -> None:
    """Do something; print what it returned, its seconds, its CPU seconds, and the peak of the process's memory."""
    began, cpu = time.perf_counter(), time.process_time()
    found = do() or {}
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**found, "seconds": seconds, "cpu": cpu, "peak_mib": peak}))


def print_table(rows: Iterable[tuple[str, str, str]], file: Path) -> None:
    """Print what was measured, the figure and what is asked for, each as soon as it is known; write all to a file."""
    table = ["| measured | figure | asked for |", "|---|---|---|"]
    print("\n".join(table))
    for row in rows:
        table.append("| " + " | ".join(row) + " |")
        print(table[-1], flush=True)
    file.write_text("\n".join(table) + "\n")

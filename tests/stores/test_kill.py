"""SIGKILL at random moments, each followed by a clean try: the old object or the new one, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.object_stores import MAY_1, connect

KILLS = int(os.environ.get("KILLS", "36"))
SEED = random.randrange(2**32)


class Exports:
    """The warmed process, and the export that it forked last."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert self._word() == "ready"

    def _word(self) -> str:
        """Return the next word that is not a line of the log."""
        while line := self.process.stdout.readline():
            word = line.strip()
            if word.isdigit() or word in ("ready", "put", "done", "end"):
                return word
        raise AssertionError("the warmed process ended")

    def run(self, arguments: dict[str, Any], kill_after: str = "", delay: float = 0.0) -> list[tuple[str, float]]:
        """Run one export; kill it so many seconds after a word of its. Return its words with their times."""
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        process_id = int(self._word())
        words = [("start", time.monotonic())]
        while True:
            if kill_after == words[-1][0]:
                time.sleep(delay)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGKILL)
                kill_after = ""
            word = self._word()
            words.append((word, time.monotonic()))
            if word == "end":
                return words


@pytest.fixture
def spool_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


@pytest.fixture
def exports(spool_folder: Path) -> Iterator[Any]:
    """Return a function that starts the warmed process, with the connections that are set by then."""
    with contextlib.ExitStack() as stack:

        def start() -> Exports:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, Path(__file__).with_name("killed_export.py"), "s3"],
                    env={**os.environ, "TMPDIR": str(spool_folder), "PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return Exports(process)

        yield start


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["local", "rclone", "moto"])
def test_a_kill_at_any_moment(server, started, monkeypatch, exports, spool_folder, truth, tell, name):
    store = connect(started(name), monkeypatch)
    noise = random.Random(7)
    for _ in range(120):
        metadata = {f"note_{n}": noise.randbytes(250).hex() for n in range(50)}
        server.create_session(created=MAY_1, metadata=metadata)
    truths = [truth(extra_columns={"_n": n}) for n in range(2)]
    url = store.url("killed/sessions.jsonl", "" if name == "local" else "lake_store")
    window = {"created_gte": MAY_1.isoformat(), "created_lt": MAY_1.replace(day=2).isoformat()}

    def arguments(n: int) -> dict[str, Any]:
        return {"destination": url, "extra_columns": {"_n": n % 2}, **window}

    warmed = exports()
    warmed.run(arguments(1))  # the first one of all is slower
    times = dict(warmed.run(arguments(1)))
    assert list(times) == ["start", "put", "done", "end"]
    export_seconds, put_seconds = times["end"] - times["start"], times["done"] - times["put"]
    moments = random.Random(SEED)
    seen: Counter[str] = Counter()
    # A busy machine decides how many of them meet the upload.
    for n in range(3 * KILLS):
        if n >= KILLS and seen["before"] and seen["during"] >= KILLS // 4:
            break
        # One in three at any time of the export; the others at any time of the upload, which is the shorter part.
        if n % 3:
            words = warmed.run(arguments(n), "put", moments.uniform(0, 1.2 * put_seconds))
        else:
            words = warmed.run(arguments(n), "start", moments.uniform(0, 1.1 * export_seconds))
        reached = [word for word, _ in words]
        when = "after" if "done" in reached else "during" if "put" in reached else "before"
        seen[when] += 1
        found = store.read("killed/sessions.jsonl")
        assert found in truths, (SEED, n)
        if when == "before":
            assert found == truths[(n + 1) % 2], (SEED, n)
        if when == "during":
            seen["new"] += found == truths[n % 2]
        if when == "after":
            assert found == truths[n % 2], (SEED, n)
        # The shared rate of all processes stays, in a folder of its own.
        assert not [path for path in spool_folder.iterdir() if not path.name.startswith("stripe-identity-")], (SEED, n)
        seen["left over"] += len(store.left_overs())
        warmed.run(arguments(n))
        assert store.read("killed/sessions.jsonl") == truths[n % 2], (SEED, n)
        assert store.left_overs() == [], (SEED, n)
    assert seen["before"]
    assert seen["during"] >= KILLS // 4
    tell(
        f"{type(store).__name__}: {n} kills of an export of {len(truths[0]):,} bytes: {seen['before']} before, "
        f"{seen['during']} during ({seen['new']} of them found the new object in place) and {seen['after']} after the "
        f"upload; {seen['left over']} temporary files or pending uploads until the next try, 0 after it"
    )

"""Asks an Airflow for its health without a pause, in a process of its own: a busy caller would measure itself."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time


def watch(url: str, seconds: float) -> subprocess.Popen[str]:
    """Begin to ask, and go on for some seconds; `took` reads what came of it."""
    host = url.removeprefix("http://")
    return subprocess.Popen([sys.executable, __file__, host, str(seconds)], stdout=subprocess.PIPE, text=True)


def took(watching: subprocess.Popen[str]) -> list[float]:
    """Return the seconds that each answer took, sorted."""
    output, _ = watching.communicate()
    assert watching.returncode == 0
    return sorted(json.loads(output))


def main(host: str, seconds: float) -> None:
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("GET", "/api/v2/monitor/health")
        assert connection.getresponse().status == 200
        connection.close()
        times.append(time.perf_counter() - began)
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))

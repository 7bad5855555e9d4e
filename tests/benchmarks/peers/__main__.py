"""
The export beside what a user would pick instead: ``make bench-peers``, with ``SHAPES=even`` for one shape alone.

Each peer is a program in this folder, configured as its project recommends; it writes JSON lines into a file. They all
read 20,000 sessions, 100 a page, from the same emulator, which enforces Stripe's 25 requests per second.
The time is from the arrival of the first request to the end of the process: without its imports, with all that it does
afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
START, END = 1_768_435_200, 1_768_521_600  # 2026-01-15 in UTC
HOT = (START + 50_000, START + 50_864)

EMULATOR = """
import json, sys, time
from airflow_provider_stripe_identity.testing import StripeIdentityServer
populations, options = json.loads(sys.argv[1])
with StripeIdentityServer(**options) as server:
    for population in populations:
        server.populate(*population)
    truth = list(server.sessions())
    print(server.url, flush=True)
    for line in sys.stdin:
        requests = list(server.requests)
        server.requests.clear()
        seconds = time.monotonic() - requests[0].time if requests else 0.0
        refused = sum(request.status == 429 for request in requests)
        rows = []
        try:
            rows = [json.loads(row) for row in open(line.strip())]
        except (OSError, ValueError):
            pass
        by_id = {row.get("id"): row for row in rows}
        same = lambda session: all(
            name in by_id[session["id"]] and by_id[session["id"]][name] == session[name]
            for name in ("id", "created", "last_error", "metadata", "options", "last_verification_report")
        )
        wrong = []
        if [row.get("id") for row in rows] != [session["id"] for session in truth]:
            complete = len(rows) == len(truth) and len(by_id) == len(truth)
            wrong.append("order" if complete else f"{len(rows)} rows")
        if not all(same(session) for session in truth if session["id"] in by_id):
            wrong.append("values")
        if any("client_secret" in row or "url" in row for row in rows):
            wrong.append("secrets")
        answer = {"seconds": seconds, "requests": len(requests), "refused": refused, "wrong": ", ".join(wrong)}
        print(json.dumps(answer | {"sessions": len(rows)}), flush=True)
"""

SHAPES = {
    "even": [(20_000, START, END)],
    "80 % in 1 %": [(4_000, START, END), (16_000, *HOT)],
    "nearly empty": [(60, START, END)],
}
#: What is run, as how many at once, and with what further arguments.
PEERS = {
    "**this package**, first run": ("ours.py", None, []),
    "**this package**, knows the previous run": ("ours.py", None, ["expected"]),
    "SDK, 24 windows, 4 threads": ("sdk_threads.py", 4, []),
    "SDK, 24 windows, 8 threads": ("sdk_threads.py", 8, []),
    "SDK, 24 windows, 12 threads": ("sdk_threads.py", 12, []),
    "airbyte-cdk, 24 windows, budget of 24/s": ("airbyte_manifest.py", 8, []),
    "dlt rest_api, 24 parallel resources": ("dlt_rest_api.py", 8, []),
    "HttpOperator, pagination_function": ("http_operator.py", 1, []),
}


def run(program: str, arguments: list[str]) -> float:
    """Return the peak memory in MiB; what a peer logs is shown where it fails."""
    environment = os.environ | {"NO_PROXY": "127.0.0.1"}
    command = [sys.executable, str(HERE / program), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        print(output[-2_000:], file=sys.stderr)
    return usage.ru_maxrss / 1024


def main(shapes: list[str]) -> None:
    rows = [
        "| day | a page | | of 24 requests/s | requests / ideal | 429 | peak memory | wrong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(rows))
    for shape in shapes or SHAPES:
        populations = SHAPES[shape]
        for latency, threads in ((0.1, 8), (0.4, 12)):
            options = {"latency": latency, "rate_limit": 25}
            emulator = subprocess.Popen(
                [sys.executable, "-c", EMULATOR, json.dumps([populations, options])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            url = emulator.stdout.readline().strip()
            total = sum(population[0] for population in populations)
            for name, (program, workers, more) in PEERS.items():
                with tempfile.TemporaryDirectory() as folder:
                    out = f"{folder}/out.jsonl"
                    more = [str(round(total * 0.95)) for _ in more]  # yesterday was a little quieter
                    peak = run(program, [url, out, str(START), str(END), str(workers or threads), *more])
                    emulator.stdin.write(out + "\n")
                    emulator.stdin.flush()
                    seen = json.loads(emulator.stdout.readline())
                share = seen["sessions"] / seen["seconds"] / 2_400 if seen["seconds"] else 0.0
                requests = seen["requests"] / -(-total // 100)
                rows.append(
                    f"| {shape} | {latency * 1000:.0f} ms | {name} | {share:.0%} | {requests:.2f} | "
                    f"{seen['refused']} | {peak:.0f} MiB | {seen['wrong']} |"
                )
                print(rows[-1], flush=True)
            emulator.stdin.close()
            emulator.wait()
    (HERE / "results.md").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

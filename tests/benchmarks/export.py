"""
The export against the official Stripe SDK and against plain paging: ``make bench``.

The embedded server runs in a process of its own, a page is 100 sessions, every ratio is between two runs of the same
call, and the table goes to ``results.md`` beside this file.
"""

from __future__ import annotations

import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
WINDOW = (1_768_435_200, 1_768_521_600)  # 2026-01-15 in UTC


SERVER = """
import json, sys, threading
from airflow_provider_stripe_identity.testing import StripeIdentityServer
populations, options = json.loads(sys.argv[1])
with StripeIdentityServer(**options) as server:
    for population in populations:
        server.populate(*population)
    print(server.url, flush=True)
    threading.Event().wait()
"""
START, END = WINDOW


@contextmanager
def server(*populations: tuple[int, int, int], **options):
    """Run the embedded server, with (count, start, end) of sessions, in another process, and yield its URL."""
    command = [sys.executable, "-c", SERVER, json.dumps([populations, options])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def even(count: int) -> tuple[int, int, int]:
    return count, START, END


def measured(kind: str, url: str, **options) -> dict:
    """Run one exporter in a process of its own, and return what it measured of itself."""
    done = subprocess.run(
        [sys.executable, __file__, kind, url, json.dumps(options)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# What runs in a process of its own


def ours(url: str, *, compress: bool = True, level: int | None = None, **options) -> tuple[int, int]:
    """Export with the operator's own parts; return the sessions and how often Stripe refused."""
    from airflow_provider_stripe_identity import jsonl
    from airflow_provider_stripe_identity.stripe_api.client import StripeIdentityClient
    from airflow_provider_stripe_identity.stripe_api.listing import list_objects

    refused = []
    handler = logging.Handler()
    handler.emit = lambda record: refused.append(1) if ": 429 " in record.getMessage() else None
    logging.getLogger("airflow_provider_stripe_identity").addHandler(handler)
    if level is not None:
        jsonl.GZIP_LEVEL = level
    client = StripeIdentityClient("sk_test_embedded", base_url=url, **options)
    lines = jsonl.JsonLines()
    with tempfile.TemporaryFile() as file:
        sessions = list_objects(
            client, "/v1/identity/verification_sessions", [], created_gte=WINDOW[0], created_lt=WINDOW[1]
        )
        lines.write(sessions, file, compress=compress)
        measured_size = file.tell()
    ours.size = measured_size
    return lines.sessions, len(refused)


def plain(url: str) -> tuple[int, int]:
    """Read the same one page after another."""
    return ours(url, max_concurrency=1, max_requests_per_second=10_000)


def sdk(url: str) -> tuple[int, int]:
    """Write the same rows with the official SDK."""
    import gzip

    import stripe

    from airflow_provider_stripe_identity.jsonl import DEFAULT_FIELDS

    client = stripe.StripeClient("sk_test_embedded", base_addresses={"api": url}, max_network_retries=5)
    count = 0
    created = {"gte": WINDOW[0], "lt": WINDOW[1]}
    with tempfile.TemporaryFile() as file, gzip.open(file, "wt") as rows:
        page = client.v1.identity.verification_sessions.list(params={"created": created, "limit": 100})
        for session in page.auto_paging_iter():
            row = {name: value for name, value in session.to_dict().items() if name in DEFAULT_FIELDS}
            rows.write(json.dumps(row) + "\n")
            count += 1
    return count, 0


def run_exporter(kind: str, url: str, options: dict) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    count, refused = {"ours": ours, "plain": plain, "sdk": sdk}[kind](url, **options)
    print(
        json.dumps(
            {
                "sessions": count,
                "refused": refused,
                "seconds": time.perf_counter() - began,
                "cpu": time.process_time() - cpu,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "bytes": getattr(ours, "size", None),
            }
        )
    )


def import_cost() -> float:
    """Milliseconds that a DAG file pays for the operators and sensors, over what it needs of Airflow anyway."""
    code = """
import time
from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator
began = time.perf_counter()
import airflow_provider_stripe_identity.operators, airflow_provider_stripe_identity.sensors
print((time.perf_counter() - began) * 1000)
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    return statistics.median(float(run.stdout.splitlines()[-1]) for run in runs)


def rate(result: dict) -> float:
    return result["sessions"] / result["seconds"]


# The table


def rows():
    """Yield what was measured, the figure, and what is asked for."""
    polite = {"max_requests_per_second": 24, "max_concurrency": 8}
    with server(even(60_000), latency=0.1, rate_limit=25) as url:
        fast = measured("ours", url, **polite)
    with server(even(4_000), latency=0.1) as url:
        peer = measured("sdk", url)
    yield "100 ms a page, 24 requests/s of 25: share of the 2,400 sessions/s", f"{rate(fast) / 24:.1f} %", "92 %"
    yield "  429 answers", str(fast["refused"]), "0"
    yield "  against the SDK", f"{rate(fast) / rate(peer):.1f} x", "3.5 x"
    with server(even(2_000), latency=0.4) as url:
        peer = measured("sdk", url)
    # The first seconds, in which the density is unknown, and the last, with few ranges left, weigh less on a long day.
    for count in (60_000, 200_000):
        with server(even(count), latency=0.4, rate_limit=25) as url:
            fast = measured("ours", url, max_requests_per_second=24, max_concurrency=12)
        yield (
            f"400 ms a page, 12 at once, {count:,} sessions: against the SDK",
            f"{rate(fast) / rate(peer):.1f} x",
            "9.5 x",
        )
    free = {"max_requests_per_second": 10_000, "max_concurrency": 8}
    hot = (32_000, START + 50_000, START + 50_864)
    for shape, populations, wanted in (
        ("even day", [even(40_000)], "6.5 x"),
        ("80 % in 1 % of the day", [even(8_000), hot], "5 x"),
    ):
        with server(*populations, latency=0.1) as url:
            fast = measured("ours", url, **free)
            slow = measured("plain", url)
        yield (
            f"100 ms a page, 8 at once, no limit, {shape}: against plain paging",
            f"{rate(fast) / rate(slow):.1f} x",
            wanted,
        )
    with server(even(20_000)) as url:
        fast = measured("ours", url, **free)
        peer = measured("sdk", url)
    yield "CPU of the export, a session", f"{fast['cpu'] / fast['sessions'] * 1e6:.0f} µs", "60 µs"
    yield "  the SDK's", f"{peer['cpu'] / peer['sessions'] * 1e6:.0f} µs", ""
    with server(even(1_000)) as url:
        few = measured("ours", url, **free)
    with server(even(250_000)) as url:
        many = measured("ours", url, **free)
    yield (
        "Peak memory of 250,000 sessions over that of 1,000",
        f"{many['peak_mib'] - few['peak_mib']:.0f} MiB",
        "40 MiB",
    )
    yield "Import of operators and sensors over airflow.sdk", f"{import_cost():.0f} ms", "30 ms"
    with server(even(20_000)) as url:
        for level in (1, 4, 6, 9):
            result = measured("ours", url, level=level, **free)
            figure = (
                f"{result['cpu'] / result['sessions'] * 1e6:.0f} µs, {result['bytes'] / result['sessions']:.0f} bytes"
            )
            yield f"gzip level {level}, a session", figure, ""


def main() -> None:
    table = ["| measured | figure | asked for |", "|---|---|---|"]
    print("\n".join(table))
    for row in rows():
        table.append("| " + " | ".join(row) + " |")
        print(table[-1], flush=True)
    (HERE / "results.md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_exporter(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    else:
        main()

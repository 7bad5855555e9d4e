"""
The export against the official Stripe SDK and against plain paging: ``make bench``.

The emulator runs in a process of its own, a page is 100 sessions, every ratio is between two runs of the same
call, and the table goes to ``results.md`` beside this file. ``export.py events`` measures the history alone.
"""

from __future__ import annotations

import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from measuring import measure, measured, print_table

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
    """Run the emulator, with (count, start, end) of sessions, in another process, and yield its URL."""
    command = [sys.executable, "-c", SERVER, json.dumps([populations, options])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def even(count: int) -> tuple[int, int, int]:
    return count, START, END


def exported(kind: str, url: str, **options) -> dict:
    """Run one exporter in a process of its own, and return what it measured of itself."""
    return measured(__file__, kind, url, json.dumps(options))


# What runs in a process of its own


def ours(url: str, *, compress: bool = True, level: int | None = None, **options) -> dict[str, int]:
    """Export with the operator's own parts."""
    from airflow_provider_stripe_identity._export import jsonl
    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
    from airflow_provider_stripe_identity._stripe_api.listing import list_objects

    refused = []
    handler = logging.Handler()
    handler.emit = lambda record: refused.append(1) if ": 429 " in record.getMessage() else None  # type: ignore[method-assign]
    logging.getLogger("airflow_provider_stripe_identity").addHandler(handler)
    if level is not None:
        jsonl.GZIP_LEVEL = level
    client = StripeIdentityClient("sk_test_emulator", base_url=url, **options)
    lines = jsonl.JsonLines()
    with tempfile.TemporaryFile() as file:
        sessions = list_objects(
            client, "/v1/identity/verification_sessions", [], created_gte=WINDOW[0], created_lt=WINDOW[1]
        )
        lines.write(sessions, file, compress=compress)
        size = file.tell()
    return {"sessions": lines.sessions, "refused": len(refused), "bytes": size}


def events(url: str, *, window: tuple[int, int], **options) -> dict[str, int]:
    """Write every event of a window, as the operator of the history does."""
    from airflow_provider_stripe_identity._export.events import every_event
    from airflow_provider_stripe_identity._export.jsonl import JsonLines
    from airflow_provider_stripe_identity._export.windows import Window
    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
    from airflow_provider_stripe_identity.hooks import StripeIdentityHook

    hook = StripeIdentityHook()
    hook.client = StripeIdentityClient("sk_test_emulator", base_url=url, **options)
    lines = JsonLines(event_columns=True)
    with tempfile.TemporaryFile() as file:
        lines.write(every_event(hook, Window(*window)), file, compress=True)
    return {"events": lines.sessions, "requests": hook.client.counts["requests"]}


def plain(url: str) -> dict[str, int]:
    """Read the same one page after another."""
    return ours(url, max_concurrency=1, max_requests_per_second=10_000)


def sdk(url: str) -> dict[str, int]:
    """Write the same rows with the official SDK."""
    import gzip

    import stripe

    from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS

    client = stripe.StripeClient("sk_test_emulator", base_addresses={"api": url}, max_network_retries=5)
    count = 0
    created = {"gte": WINDOW[0], "lt": WINDOW[1]}
    with tempfile.TemporaryFile() as file, gzip.open(file, "wt") as rows:
        page = client.v1.identity.verification_sessions.list(params={"created": created, "limit": 100})
        for session in page.auto_paging_iter():
            row = {name: value for name, value in session.to_dict().items() if name in DEFAULT_FIELDS}
            rows.write(json.dumps(row) + "\n")
            count += 1
    return {"sessions": count}


def run_exporter(kind: str, url: str, options: dict) -> None:
    exporters: dict[str, Callable[..., dict[str, int]]] = {"events": events, "ours": ours, "plain": plain, "sdk": sdk}
    measure(lambda: exporters[kind](url, **options))


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


def rows_of_events():
    """Yield the same of the history: each session of the emulator has three events, or four."""
    today = int(time.time()) // 86400 * 86400
    window = today - 86400, today
    found = []
    for count in (350, 90_000):
        with server((count, *window)) as url:
            found.append(exported("events", url, window=window, max_requests_per_second=10_000, max_concurrency=8))
    few, many = found
    yield (
        f"Peak memory of {many['events']:,} events in one window over that of {few['events']:,}",
        f"{many['peak_mib'] - few['peak_mib']:.0f} MiB",
        "40 MiB",
    )
    pages = -(-many["events"] // 100)
    yield f"  requests, over the {pages:,} pages of their list", f"{many['requests'] / pages:.2f}", ""


def rows():
    """Yield what was measured, the figure, and what is asked for."""
    polite = {"max_requests_per_second": 24, "max_concurrency": 8}
    with server(even(60_000), latency=0.1, rate_limit=25) as url:
        fast = exported("ours", url, **polite)
    with server(even(4_000), latency=0.1) as url:
        peer = exported("sdk", url)
    yield "100 ms a page, 24 requests/s of 25: share of the 2,400 sessions/s", f"{rate(fast) / 24:.1f} %", "92 %"
    yield "  429 answers", str(fast["refused"]), "0"
    yield "  against the SDK", f"{rate(fast) / rate(peer):.1f} x", "3.5 x"
    with server(even(2_000), latency=0.4) as url:
        peer = exported("sdk", url)
    # The first seconds, in which the density is unknown, and the last, with few ranges left, weigh less on a long day.
    for count in (60_000, 200_000):
        with server(even(count), latency=0.4, rate_limit=25) as url:
            fast = exported("ours", url, max_requests_per_second=24, max_concurrency=12)
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
            fast = exported("ours", url, **free)
            slow = exported("plain", url)
        yield (
            f"100 ms a page, 8 at once, no limit, {shape}: against plain paging",
            f"{rate(fast) / rate(slow):.1f} x",
            wanted,
        )
    with server(even(20_000)) as url:
        fast = exported("ours", url, **free)
        peer = exported("sdk", url)
    yield "CPU of the export, a session", f"{fast['cpu'] / fast['sessions'] * 1e6:.0f} µs", "60 µs"
    yield "  the SDK's", f"{peer['cpu'] / peer['sessions'] * 1e6:.0f} µs", ""
    with server(even(1_000)) as url:
        few = exported("ours", url, **free)
    with server(even(250_000)) as url:
        many = exported("ours", url, **free)
    yield (
        "Peak memory of 250,000 sessions over that of 1,000",
        f"{many['peak_mib'] - few['peak_mib']:.0f} MiB",
        "40 MiB",
    )
    yield from rows_of_events()
    yield "Import of operators and sensors over airflow.sdk", f"{import_cost():.0f} ms", "30 ms"
    with server(even(20_000)) as url:
        for level in (1, 4, 6, 9):
            result = exported("ours", url, level=level, **free)
            figure = (
                f"{result['cpu'] / result['sessions'] * 1e6:.0f} µs, {result['bytes'] / result['sessions']:.0f} bytes"
            )
            yield f"gzip level {level}, a session", figure, ""


if __name__ == "__main__":
    if sys.argv[1:] == ["events"]:
        print_table(rows_of_events(), HERE / "results-events.md")
    elif len(sys.argv) > 1:
        run_exporter(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    else:
        print_table(rows(), HERE / "results.md")

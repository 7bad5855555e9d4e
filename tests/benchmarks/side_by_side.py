"""
Eight exports at once, each a process of its own, with one key: ``.venv/bin/python tests/benchmarks/side_by_side.py``.

The emulator enforces Stripe's 25 requests per second, a page takes 200 ms, and every process reads 5,000 sessions at up
to 24 requests per second. The time is from the first request to the last answer.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import time

from airflow_provider_stripe_identity._export.jsonl import JsonLines
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity._stripe_api.listing import list_objects
from airflow_provider_stripe_identity._stripe_api.pages import VERIFICATION_SESSIONS
from airflow_provider_stripe_identity.testing import StripeIdentityServer

START, END = 1_768_435_200, 1_768_521_600  # 2026-01-15 in UTC
SESSIONS, PROCESSES, LATENCY, LIMIT = 5_000, 8, 0.2, 25


def emulator(pipe) -> None:
    with StripeIdentityServer(latency=LATENCY, rate_limit=LIMIT) as server:
        server.populate(SESSIONS, START, END)
        pipe.send(server.url)
        pipe.recv()
        pipe.send([(request.time, request.status) for request in server.requests])


def export(url: str, all_ready, results) -> None:
    logging.disable()
    client = StripeIdentityClient("sk_test_emulator", base_url=url, max_requests_per_second=24)
    lines = JsonLines()
    all_ready.wait()
    with open("/dev/null", "wb") as file:
        lines.write(
            list_objects(client, VERIFICATION_SESSIONS, [], created_gte=START, created_lt=END), file, compress=True
        )
    results.put((lines.sessions, time.monotonic()))


def main() -> None:
    made = multiprocessing.get_context("spawn")
    here, there = made.Pipe()
    server = made.Process(target=emulator, args=(there,))
    server.start()
    url = here.recv()
    all_ready, results = made.Barrier(PROCESSES), made.Queue()
    exports = [made.Process(target=export, args=(url, all_ready, results)) for _ in range(PROCESSES)]
    for process in exports:
        process.start()
    for process in exports:
        process.join()
    ended = [results.get(timeout=1) for process in exports if process.exitcode == 0]
    here.send("done")
    requests = here.recv()
    server.join()
    seconds = max(moment for _, moment in ended) - requests[0][0]
    refused = sum(status == 429 for _, status in requests)
    whole = sum(count == SESSIONS for count, _ in ended)
    print(
        f"{PROCESSES} exports at once, {LATENCY * 1000:.0f} ms a page: "
        f"{(len(requests) - refused) / seconds / LIMIT:.1%} of {LIMIT} requests/s together, "
        f"{refused / len(requests):.1%} of {len(requests)} requests refused, {whole} exports whole, {seconds:.1f} s"
    )
    sys.exit(whole != PROCESSES)


if __name__ == "__main__":
    main()

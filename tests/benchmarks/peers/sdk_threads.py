"""The official SDK in a thread pool over 24 windows of equal length: what a careful engineer writes in a task."""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import stripe

SECRETS = ("client_secret", "url")


def main(url: str, out: str, start: int, end: int, workers: int) -> None:
    client = stripe.StripeClient("sk_test_emulator", base_addresses={"api": url}, max_network_retries=5)
    lock = threading.Lock()
    begun: list[float] = []

    def wait_for_turn() -> None:
        """At most 24 requests begun in a second."""
        with lock:
            now = time.monotonic()
            turn = max(now, begun[-24] + 1) if len(begun) >= 24 else now
            begun.append(turn)
        time.sleep(max(turn - time.monotonic(), 0))

    def window(bounds: tuple[int, int]) -> list[str]:
        params = {"created": {"gte": bounds[0], "lt": bounds[1]}, "limit": 100}
        rows = []
        while True:
            wait_for_turn()
            try:
                page = client.v1.identity.verification_sessions.list(params=params)
            except stripe.RateLimitError:
                time.sleep(1)
                continue
            for session in page.data:
                row = session.to_dict()
                rows.append(json.dumps({name: value for name, value in row.items() if name not in SECRETS}))
            if not page.has_more:
                return rows
            params["starting_after"] = page.data[-1].id

    length = (end - start) // 24
    windows = [(start + length * n, start + length * (n + 1)) for n in reversed(range(24))]
    with ThreadPoolExecutor(workers) as pool, open(out, "w") as file:
        for rows in pool.map(window, windows):
            file.writelines(row + "\n" for row in rows)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))

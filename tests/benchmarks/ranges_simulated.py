"""
The ranges and the rate limiter on a virtual clock: ``.venv/bin/python tests/benchmarks/ranges_simulated.py``.

The real scheduler and the real limiter, without the noise of a machine: to try a
design on many days. What is left out is the time of threads, sockets and decoding.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from bisect import bisect_left
from types import SimpleNamespace

from airflow_provider_stripe_identity._stripe_api import rate_limiter
from airflow_provider_stripe_identity._stripe_api.ranges import Ranges

DAY = 86_400
PAGE = 100


def even(chance: random.Random, count: int) -> list[int]:
    return [chance.randrange(DAY) for _ in range(count)]


def hot(chance: random.Random, count: int) -> list[int]:
    """80 % in 1 % of the day."""
    return even(chance, count // 5) + [chance.randrange(50_000, 50_864) for _ in range(count - count // 5)]


def quiet_night(chance: random.Random, count: int) -> list[int]:
    days = [(second, 0.5 - 0.48 * math.cos(2 * math.pi * second / DAY)) for second in range(0, DAY, 60)]
    seconds, weights = zip(*days, strict=True)
    return [second + chance.randrange(60) for second in chance.choices(seconds, weights, k=count)]


def campaigns(chance: random.Random, count: int) -> list[int]:
    """Crowds of some hundreds, at any time, each within minutes."""
    seconds: list[int] = []
    while len(seconds) < count:
        middle, size = chance.randrange(DAY), int(chance.expovariate(1 / 200)) + 1
        seconds += [min(max(int(chance.gauss(middle, 120)), 0), DAY - 1) for _ in range(size)]
    return seconds[:count]


def simulated(seconds: list[int], *, rate: float, workers: int, latency: float, expected: float = 0.0):
    """Return how long one listing takes, in seconds, and its requests."""
    listed = sorted(seconds)
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    rate_limiter.time = clock  # type: ignore[assignment]
    limiter = rate_limiter.RateLimiter(rate, workers)
    ranges = Ranges(0, DAY, workers=workers, expected_pages=expected / PAGE)
    bounds: dict = {}
    under_way: list = []
    requests = 0
    while ranges.unfinished:
        begin = max(limiter._next(), clock.now)
        may_send = len(under_way) < workers and (not under_way or begin < under_way[0][0])
        chosen = None
        if may_send:
            clock.now = begin
            chosen = ranges.take()
        if chosen is not None:
            turn = rate_limiter._Turn(begin)
            limiter._turns.append(turn)
            limiter._running += 1
            requests += 1
            bounds.setdefault(chosen, [chosen.start, bisect_left(listed, chosen.end)])
            heapq.heappush(under_way, (begin + latency, requests, chosen, turn))
            continue
        clock.now, _, answered, turn = heapq.heappop(under_way)
        limiter._ended(turn, None, answered=True)
        start, end = bounds[answered]
        first = max(bisect_left(listed, start), end - PAGE)
        has_more = first > bisect_left(listed, start)
        page = [{"id": f"vs_{place}", "created": listed[place]} for place in range(end - 1, first - 1, -1)]
        bounds[answered][1] = first
        ranges.add(answered, page, has_more=has_more)
        while ranges.next_page() is not None:
            pass
    return clock.now, requests


def main() -> None:
    print(
        "| sessions | day | a page, at once | known | of 24 requests/s | requests / ideal |\n|---|---|---|---|---|---|"
    )
    for count, shape in (
        (20_000, even),
        (20_000, hot),
        (20_000, quiet_night),
        (20_000, campaigns),
        (60_000, even),
        (900, even),
        (90, even),
    ):
        for latency, workers in ((0.1, 8), (0.4, 12)):
            for known in (False, True):
                chance = random.Random(0)
                runs = [
                    simulated(
                        shape(chance, count),
                        rate=24,
                        workers=workers,
                        latency=latency,
                        expected=count * chance.uniform(0.85, 1.15) if known else 0.0,
                    )
                    for _ in range(20)
                ]
                ideal = math.ceil(count / PAGE)
                share = statistics.mean(count / seconds / 2_400 for seconds, _ in runs)
                extra = [requests / ideal for _, requests in runs]
                requests = f"{statistics.mean(extra):.2f}, at most {max(extra):.2f}"
                print(
                    f"| {count:,} | {shape.__name__} | {latency * 1000:.0f} ms, {workers} | "
                    f"{'yes' if known else 'no'} | {share:.0%} | {requests} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

"""Serve a generated Stripe account: `python -m airflow_provider_stripe_identity.testing`."""

from __future__ import annotations

import argparse
import shlex
import signal
import threading
from datetime import UTC, datetime, timedelta

from .server import StripeIdentityServer


def main(argv: list[str] | None = None) -> None:
    """
    Serve until SIGINT or SIGTERM.

    :param argv: arguments, by default those of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_stripe_identity.testing",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8042, help="0: any that is free")
    parser.add_argument("--sessions", type=int, default=10_000, help="how many sessions to generate")
    parser.add_argument("--days", type=float, default=1, help="over how many days they are spread")
    parser.add_argument("--end", type=datetime.fromisoformat, help="end of these days, ISO 8601; by default now")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other sessions")
    parser.add_argument("--api-key", default="sk_test_embedded", help="the key to accept")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every answer takes")
    parser.add_argument("--rate-limit", type=int, help="requests a second that each endpoint accepts")
    parser.add_argument("--path-prefix", default="", help="what all paths start with")
    parser.add_argument("--gateway", action="store_true", help="need no key")
    args = parser.parse_args(argv)

    end = args.end or datetime.now(UTC)
    if end.tzinfo is None:
        end = end.replace(tzinfo=UTC)
    server = StripeIdentityServer(
        api_key=args.api_key,
        host=args.host,
        port=args.port,
        path_prefix=args.path_prefix,
        gateway=args.gateway,
        latency=args.latency,
        rate_limit=args.rate_limit,
    )
    server.populate(args.sessions, end - timedelta(days=args.days), end, seed=args.seed)

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with server:
        print(server.url)  # noqa: T201
        connection = shlex.quote(server.airflow_connection())
        print(f"export AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT={connection}", flush=True)  # noqa: T201
        stop.wait()


if __name__ == "__main__":
    main()

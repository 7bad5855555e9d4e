"""Serve a generated Stripe account: `python -m airflow_provider_stripe_identity.testing`."""

from __future__ import annotations

import argparse
import errno
import shlex
import signal
import threading
from datetime import UTC, datetime, timedelta

from airflow_provider_stripe_identity.testing.options import OPTIONS

from .server import StripeIdentityServer


def main(argv: list[str] | None = None) -> None:
    """
    Serve until SIGINT or SIGTERM.

    :param argv: arguments, by default those of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_stripe_identity.testing",
        description=__doc__,
    )
    for flag, settings in OPTIONS.items():
        parser.add_argument(flag, **settings)
    serve(parser.parse_args(argv))


def serve(args: argparse.Namespace) -> None:
    """
    Serve until SIGINT or SIGTERM.

    :param args: what :data:`~airflow_provider_stripe_identity.testing.options.OPTIONS` say
    """
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
    if args.key_without_events:
        server.api_keys[args.key_without_events] = set(server.api_keys[args.api_key]) - {"events"}
    midnight = end.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    server.populate(args.sessions, midnight - timedelta(days=args.days), end, seed=args.seed)

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server.start()
    except OSError as error:
        busy = error.errno == errno.EADDRINUSE
        why = "is in use: choose another with --port (0: any that is free)" if busy else f"cannot be used: {error}"
        raise SystemExit(f"Port {args.port} of {args.host} {why}") from None
    try:
        print(server.url)  # noqa: T201
        connection = shlex.quote(server.airflow_connection())
        print(f"export AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT={connection}", flush=True)  # noqa: T201
        stop.wait()
    finally:
        server.stop()


if __name__ == "__main__":
    main()

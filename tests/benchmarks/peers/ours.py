"""This package: the operator's own listing and writing, at 24 requests per second."""

from __future__ import annotations

import sys

from airflow_provider_stripe_identity._export.jsonl import JsonLines
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity._stripe_api.listing import list_objects
from airflow_provider_stripe_identity._stripe_api.pages import VERIFICATION_SESSIONS


def main(url: str, out: str, start: int, end: int, workers: int, expected: int = 0) -> None:
    client = StripeIdentityClient("sk_test_emulator", base_url=url, max_requests_per_second=24, max_concurrency=workers)
    sessions = list_objects(client, VERIFICATION_SESSIONS, [], created_gte=start, created_lt=end, expected=expected)
    with open(out, "wb") as file:
        JsonLines().write(sessions, file, compress=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))

"""The objects of a backfill by months, beside what an export in this process writes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

MONTHS = 24


def assert_months_are_whole(folder: Path, scratch: Path) -> None:
    """Compare the objects ``2024-01.jsonl`` to ``2025-12.jsonl`` with the sessions of the connection ``history``."""
    expected = set()
    for month in range(MONTHS):
        start, end = (datetime(2024 + one // 12, one % 12 + 1, 1, tzinfo=UTC) for one in (month, month + 1))
        name = f"{start:%Y-%m}.jsonl"
        truth = scratch / name
        StripeIdentityToObjectStorageOperator(
            task_id="truth",
            stripe_conn_id="history",
            created_gte=start,
            created_lt=end,
            destination=f"file://{truth}",
        ).execute({})
        assert (folder / name).read_bytes() == truth.read_bytes(), name
        expected.add(name)
    assert {path.name for path in folder.iterdir()} == expected

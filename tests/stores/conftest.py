"""The stores start once, and the run ends with counts of what was tried: the table of docs/evidence.md."""

import os

# The emulator knows nothing of Google's zonal buckets, and gcsfs asks for them first.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.object_stores import MAY_1, STORES, connect

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Return a function that gives the running store of a name."""
    with ExitStack() as stack:
        running: dict[str, Any] = {}

        def start(name: str) -> Any:
            if name not in running:
                running[name] = stack.enter_context(STORES[name]().started(tmp_path_factory.mktemp(name)))
            return running[name]

        yield start


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, started: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every store in turn, behind the connection ``lake_store``."""
    return connect(started(request.param), monkeypatch)


@pytest.fixture
def export() -> Callable[..., dict[str, Any]]:
    """Export May 1st to a URL."""

    def run(destination: str, **arguments: Any) -> dict[str, Any]:
        window = {"created_gte": MAY_1, "created_lt": MAY_1 + timedelta(days=1)}
        operator = StripeIdentityToObjectStorageOperator(
            task_id="export", destination=destination, **window, **arguments
        )
        return operator.execute({})

    return run


@pytest.fixture
def truth(export: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., bytes]:
    """Return what an export writes to a plain local file."""

    def read(name: str = "sessions.jsonl", **arguments: Any) -> bytes:
        export(f"file://{tmp_path}/truth/{name}", **arguments)
        return (tmp_path / "truth" / name).read_bytes()

    return read

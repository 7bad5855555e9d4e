"""Shared fixtures. Airflow reads its home at import, so that comes before everything else."""

from __future__ import annotations

import os
import shutil
import tempfile

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow_home_")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
# Connections of the tests are environment variables; a proxy between us and loopback would be in the way.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_stripe_identity._stripe_api import client as client_module
from airflow_provider_stripe_identity._stripe_api import outage, rate_limiter
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.testing import StripeIdentityServer

pytest_plugins = ["airflow_provider_stripe_identity.testing.fixtures"]


@pytest.fixture
def server(stripe_identity_server: StripeIdentityServer, monkeypatch: pytest.MonkeyPatch) -> StripeIdentityServer:
    """The emulator behind the default connection."""
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", stripe_identity_server.airflow_connection())
    return stripe_identity_server


@pytest.fixture(scope="module")
def shared_server() -> Iterator[StripeIdentityServer]:
    """The same for all examples of a property; each example has an account of its own."""
    with StripeIdentityServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        yield server


@pytest.fixture
def hook(server: StripeIdentityServer) -> StripeIdentityHook:
    """A hook on that server."""
    return StripeIdentityHook()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections without limits of their own ask as fast as they can, and wait for no outage: the server is ours."""
    monkeypatch.setattr(outage, "DEFAULT_MAX_OUTAGE", 0.0)
    monkeypatch.setattr(rate_limiter, "DEFAULT_MAX_REQUESTS_PER_SECOND", 10_000.0)


@pytest.fixture
def instant_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses, but for those the server asks for."""
    monkeypatch.setattr(client_module, "FIRST_BACKOFF", 0.0)
    monkeypatch.setattr(outage, "FIRST_PAUSE", 0.0)


@pytest.fixture
def make_connection(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], StripeIdentityHook]:
    """Return a hook on a connection given as URI or JSON text."""

    def make(connection: str) -> StripeIdentityHook:
        monkeypatch.setenv("AIRFLOW_CONN_MADE", connection)
        return StripeIdentityHook("made")

    return make


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's metadata database, migrated once."""
    from airflow.utils.db import initdb

    initdb()


class DagsFolder:
    """The DAGs folder of this process: ``dag.test()`` reads it whole, and wants the DAG in it."""

    path = Path(os.environ["AIRFLOW_HOME"]) / "dags"

    def load(self) -> dict[str, Any]:
        """Return the DAGs by id, parsed without errors or warnings."""
        from support.airflow_versions import DagBag

        bag = DagBag(dag_folder=self.path)
        assert (bag.import_errors, bag.captured_warnings) == ({}, {})
        return bag.dags


@pytest.fixture
def dags_folder(database: None) -> Iterator[DagsFolder]:
    """An empty DAGs folder."""
    folder = DagsFolder()
    folder.path.mkdir()
    yield folder
    shutil.rmtree(folder.path)


@pytest.fixture
def run_dag_file(dags_folder: DagsFolder) -> Callable[..., Any]:
    """Run the one DAG of a file's text through ``dag.test()`` and return the run."""

    def run(text: str, **arguments: Any) -> Any:
        (dags_folder.path / "file.py").write_text(text)
        (dag,) = dags_folder.load().values()
        return dag.test(**arguments)

    return run


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URI of a PostgreSQL server."""
    from support.postgres_server import postgres_server

    with postgres_server() as uri:
        yield uri


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was counted in the summary of the run, which may have several processes."""
    return lambda line: request.node.user_properties.append(("counted", line))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    called = [report for report in reports if report.when == "call"]
    if counted := [line for report in called for name, line in report.user_properties if name == "counted"]:
        terminalreporter.section("counted")
        for line in counted:
            terminalreporter.line(line)

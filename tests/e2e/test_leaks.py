"""Nothing that Airflow writes, at DEBUG, holds a secret or a person: marked ones are searched for in all of it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.airflow_stack import AirflowStack

from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer
from airflow_provider_stripe_identity.testing.api import Response
from airflow_provider_stripe_identity.testing.server import RecordedRequest

API_KEY = "sk_test_marked_apikey"
DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
DAGS = Path(__file__).parent / "dags_leaks"

REPORT = {
    "object": "identity.verification_report",
    "document": {"number": "marked_document", "first_name": "marked_firstname", "files": ["marked_file"]},
}
PERSONAL = {
    "provided_details": {"email": "marked_email@example.com", "phone": "marked_phone"},
    "verified_outputs": {"first_name": "marked_firstname", "id_number": "marked_idnumber"},
    "future_field": {"deep": ["marked_future"]},
}
HARMLESS = {
    "metadata": {"marked_metadataname": "marked_metadata"},
    "options": {"document": {"later": "marked_option"}},
    "last_error": {"code": "marked_code", "reason": "marked_reason"},
    "related_customer": "marked_customer",
    "related_person": {"account": "marked_person"},
}
# What the default fields write, and what was asked for by name; a reference is an argument of the sensors.
WRITTEN = {"metadataname", "metadata", "option", "code", "reason", "customer", "person", "stranger"}
ASKED_FOR = {
    "export.jsonl": WRITTEN,
    "export_named.jsonl": {"email", "phone", "firstname", "idnumber"},
    "export_all.jsonl": WRITTEN | {"email", "phone", "firstname", "idnumber", "future"},
}

ECHO = {
    "type": "api_error",
    "message": f"Bearer {API_KEY} of marked_email@example.com, vs_1_secret_marked_secret cannot",
    "future": "marked_future",
}
FAILING = {
    "forbidden": [Fault.status(403, error=ECHO)],
    "refusing": [Fault.status(400, error=ECHO)],
    "broken": [Fault.status(500, body=f"<html>marked_body {API_KEY}</html>"), Fault.status(503, error=ECHO)],
    "limited": [Fault.status(429, error=ECHO)],
    "redirecting": [Fault.redirect("http://127.0.0.1:1/marked_location")],
    "malformed": [
        Fault.status(200, body="<html>marked_body</html>"),
        Fault.status(200, body={"object": "list", "data": [{"marked_field": "marked_body"}], "has_more": False}),
    ],
    "cut": [Fault.cut_short()],
}
TRANSIENT = FAILING["broken"] + FAILING["limited"] + FAILING["malformed"]


class MarkedServer(StripeIdentityServer):
    """Every session comes with everything that Stripe can send, whether it was asked for or not."""

    def __init__(self) -> None:
        super().__init__(api_key=API_KEY)
        self.after_answer = self._marked

    def _marked(self, request: RecordedRequest, response: Response) -> Response:
        if response.status != 200 or not isinstance(response.body, dict):
            return response
        body = copy.deepcopy(response.body)
        for item in body.get("data", []):
            self._mark(item["data"]["object"] if item.get("object") == "event" else item)
        return Response(200, body, response.headers)

    def _mark(self, session: dict[str, Any]) -> None:
        if "status" in session:
            credentials = {
                "client_secret": f"{session['id']}_secret_marked_secret",
                "url": "https://verify.stripe.com/start/marked_url",
            }
            report = REPORT | {"id": session["last_verification_report"] or "vr_1"}
            session |= copy.deepcopy(PERSONAL | HARMLESS | credentials | {"last_verification_report": report})


@pytest.fixture(scope="module")
def stripe() -> Iterator[StripeIdentityServer]:
    with MarkedServer() as server:
        for hours in range(150):
            server.create_session(created=DAY + timedelta(minutes=hours), client_reference_id="marked_stranger")
        yield server


@pytest.fixture(scope="module")
def failing() -> Iterator[dict[str, MarkedServer]]:
    servers: dict[str, MarkedServer] = {}
    try:
        for name, faults in (FAILING | {"flaky": TRANSIENT}).items():
            servers[name] = server = MarkedServer().start()
            server.create_session(created=DAY, client_reference_id="marked_reference")
            server.fault_every(1, *faults)
        yield servers
    finally:
        for server in servers.values():
            server.stop()


@pytest.fixture(scope="module")
def everything(
    airflow_stack: Callable[..., AirflowStack], stripe, failing, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Run it all, and return whatever was written, as text by file name."""
    lake, temporary = tmp_path_factory.mktemp("lake"), tmp_path_factory.mktemp("temporary")

    def connection(server: StripeIdentityServer, **fields: Any) -> str:
        return json.dumps(json.loads(server.airflow_connection()) | {"extra": {"max_retries": 1}} | fields)

    names = [*FAILING, "wrong_key"]
    airflow = airflow_stack(
        DAGS,
        {
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
            "LEAKS_LAKE": lake.as_uri(),
            "LEAKS_DAY": DAY.isoformat(),
            "LEAKS_FAILING": " ".join(names),
            "TMPDIR": str(temporary),
            "AIRFLOW_CONN_WRONG_KEY": connection(stripe, password="sk_test_marked_wrongkey_1234"),
            **{f"AIRFLOW_CONN_{name.upper()}": connection(server) for name, server in failing.items()},
        },
    )
    # As a user does: in the metadata database, by way of the API server.
    fields = json.loads(stripe.airflow_connection())
    airflow.post("connections", {"connection_id": "stored", **fields})

    waiting = stripe.create_session(client_reference_id="marked_reference")
    runs = {dag_id: airflow.trigger(dag_id) for dag_id in ("sensor_poked", "sensor_deferred", "sensor_flaky")}
    for dag_id in ("sensor_deferred", "sensor_flaky"):
        airflow.wait_task(dag_id, runs[dag_id], "it", "deferred")
    deferred = json.dumps([airflow.task_instances(dag_id, runs[dag_id]) for dag_id in runs])
    assert "StripeIdentityVerifiedTrigger" in deferred
    exports = ["export", "export_named", "export_all", *(f"export_{name}" for name in names)]
    runs |= {dag_id: airflow.trigger(dag_id) for dag_id in [*exports, "sensor_wrong_key"]}

    flaky = failing["flaky"]
    airflow.until(lambda: len(flaky.requests) >= 12, 60, "a trigger that meets every fault")
    flaky.clear_faults()
    for server, session in ((stripe, waiting), (flaky, next(flaky.sessions()))):
        server.verify(session["id"])

    succeed = {"export", "export_named", "export_all", "sensor_poked", "sensor_deferred", "sensor_flaky"}
    for dag_id, run_id in runs.items():
        assert airflow.wait(dag_id, run_id, timeout=240) == ("success" if dag_id in succeed else "failed"), dag_id
    airflow.until(lambda: airflow.get("dags/watched/dagRuns")["dag_runs"], 60, "a run of the watched asset")
    xcoms = {dag_id: airflow.xcom(dag_id, runs[dag_id], "it") for dag_id in sorted(succeed)}
    logs = {dag_id: airflow.task_log(dag_id, run_id, "it") for dag_id, run_id in runs.items()}
    airflow.close()
    texts = {
        "deferred": deferred,
        "xcoms": json.dumps(xcoms),
        **{f"log of {name}": text for name, text in logs.items()},
    }
    for folder in (airflow.home, temporary, lake):
        for path in folder.rglob("*"):
            if path.is_file():
                texts[str(path.relative_to(folder.parent))] = path.read_text("latin-1")
    return texts


def marks(text: str) -> set[str]:
    return set(re.findall(r"marked_([a-z]+)", text))


def test_everything_was_searched(everything) -> None:
    """The marks are where they belong, and DEBUG was on: otherwise the search would prove nothing."""
    assert {Path(name).name: marks(text) for name, text in everything.items() if name.endswith(".jsonl")} == ASKED_FOR
    for part in ("task_id=it", "triggerer", "api-server.log", "scheduler.log", "airflow.db", "xcoms"):
        assert any(part in name for name in everything), (part, sorted(everything))
    logs = "".join(text for name, text in everything.items() if name.endswith(".log"))
    assert "urllib3.connectionpool" in logs, "the wire's own logger"
    for said in ("Invalid API Key", "403", "400", "500", "429", "302", "not a JSON object", "not a list of Stripe's"):
        assert said in "".join(text for name, text in everything.items() if name.startswith("log of"))


def test_no_secret_and_no_person_is_anywhere_else(everything) -> None:
    found = {name: marks(text) - {"reference"} for name, text in everything.items() if not name.endswith(".jsonl")}
    assert {name: those for name, those in found.items() if those} == {}

"""Whatever is answered: only the package's own errors come out, and never a part of an object."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hostile_server import HostileServer

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._stripe_api.parameters import EVENT_TYPES
from airflow_provider_stripe_identity._waiting.events import EventReader
from airflow_provider_stripe_identity.exceptions import StripeError
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator
from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor
from airflow_provider_stripe_identity.testing import StripeIdentityServer

#: ``FUZZ_EXAMPLES=20000 .venv/bin/pytest tests/test_fuzz.py --timeout 0`` looks longer.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
MAY_1, MAY_2 = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileServer]:
    with HostileServer() as server, pytest.MonkeyPatch.context() as patch:
        extra = {"max_retries": 0, "timeout": 5, "max_requests_per_second": 10_000}
        connection = {"conn_type": "stripe_identity", "host": server.url, "password": "sk_test_x", "extra": extra}
        patch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
        yield server


def real_pages() -> list[dict[str, Any]]:
    """Pages of sessions, of one of them, and of events, as the emulator answers them."""
    with StripeIdentityServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_REAL", server.airflow_connection())
        hook = StripeIdentityHook("real")
        for number, status in enumerate(("requires_input", "processing", "canceled", "verified")):
            server.create_session(created=MAY_1 + timedelta(hours=number), status=status, client_reference_id="user")
        sessions = hook.list_verification_sessions_page(
            expand=["data.verified_outputs", "data.last_verification_report"]
        )
        server.create_session(status="verified", client_reference_id="user")
        event_page = {"object": "list", "has_more": False, "data": list(hook.list_events(types=EVENT_TYPES))}
        return [sessions, sessions | {"has_more": True}, sessions["data"][0], event_page]


REAL = real_pages()


def export(folder: Path) -> None:
    destination = folder / "sessions.jsonl"
    operator = StripeIdentityToObjectStorageOperator(task_id="export", destination=destination.as_uri(), fields="all")
    try:
        result = operator.execute({"data_interval_start": MAY_1, "data_interval_end": MAY_2})
    except BaseException:
        assert not destination.exists()
        raise
    written = [json.loads(line) for line in destination.read_text().splitlines()]
    destination.unlink()
    assert len(written) == result["sessions"] == len({row["id"] for row in written})
    assert all(MAY_1.timestamp() <= row["created"] < MAY_2.timestamp() for row in written)
    assert not any({"client_secret", "url"} & row.keys() for row in written)


def sense(_: Path) -> None:
    judged = StripeIdentityVerifiedSensor(task_id="wait", client_reference_id="user").poke({})
    json.dumps(judged.xcom_value)


def watch(_: Path) -> None:
    reader = EventReader(EVENT_TYPES)
    for _page in range(3):
        for event in reader.read_page(StripeIdentityHook()).events:
            json.dumps(event)
        json.dumps(reader.place().as_json())


def assert_only_ours_begins_a_line(said: str) -> None:
    """What is wrong, what to do, and the Request-Id."""
    lines = said.split("\n")
    assert len(lines) <= 3
    assert "".join(lines).isprintable()


def read(_: Path) -> None:
    hook = StripeIdentityHook()
    _valid, said = hook.test_connection()
    assert_only_ours_begins_a_line(said)
    hook.get_verification_session(REAL[2]["id"])


CALLERS = [export, sense, watch, read]

NUMBERS = st.integers() | st.sampled_from([2**63, 2**64, 10**30, -1, 253402300800]) | st.floats()
TEXTS = st.text(max_size=20) | st.sampled_from(["", "x" * 300, "a\nb", "\x1b[31m", "verified", "list", "event"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from(["@deep@", "@open@", "@long@"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
#: What `json` cannot write.
SPECIAL = {b'"@deep@"': b"[" * 300 + b"]" * 300, b'"@open@"': b"[" * 300, b'"@long@"': b"9" * 5_000}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real body, in which values are replaced, left out or added, and then bytes."""
    body = json.loads(json.dumps(draw(st.sampled_from(REAL))))
    for _ in range(draw(st.integers(0, 3))):
        place: Any = {"": body}
        key: Any = ""
        while isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
            place = place[key]
            key = draw(st.sampled_from([*place] if isinstance(place, dict) else [*range(len(place))]))
        match draw(st.sampled_from(["replace", "leave out", "add"])):
            case "replace":
                place[key] = draw(VALUES)
            case "leave out" if place is not None and "" not in place:
                del place[key]
            case "add" if isinstance(place, dict):
                place[draw(TEXTS)] = draw(VALUES)
        body = place.get("", body) if isinstance(place, dict) else body
    raw = json.dumps(body).encode()
    for marker, value in SPECIAL.items():
        raw = raw.replace(marker, value)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        start = draw(st.integers(0, len(raw)))
        raw = raw[:start] + draw(st.binary(max_size=4)) + raw[start + draw(st.integers(0, 20)) :]
    return raw


NAMES = (
    *(b"Content-Encoding", b"Content-Length", b"Content-Type", b"Location", b"Request-Id", b"Retry-After"),
    *(b"Set-Cookie", b"Stripe-Rate-Limited-Reason", b"Stripe-Should-Retry", b"Transfer-Encoding"),
)
ODD = (
    *(b"gzip", b"identity", b"br", b"gzip, gzip", b"chunked", b"-1", b"1, 2", b"9" * 5000, b"1e999", b"nan", b"\xff"),
    *(b"http://[", b"//", b"a\r\n folded", b"Fri, 31 Dec 99999 23:59:59 GMT", b"true", b"false"),
)
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(ODD) | st.binary(max_size=10)), max_size=2)
STATUSES = st.sampled_from([b"200 OK"] * 5 + [b"%d X" % s for s in (204, 302, 304, 400, 401, 403, 404, 409, 429, 500)])


OK = b"HTTP/1.1 200 OK\r\n"
PIECES = st.sampled_from([b"\r\n", b"5", b"-1", b"-5", b"f" * 20, b":", b"X", b"0", b" ", b";"])


@pytest.fixture
def survives(hostile: HostileServer, tmp_path: Path) -> Callable[..., None]:
    def check(caller: Callable[[Path], None], answer: bytes) -> None:
        hostile.answer = lambda: [answer]
        said = ""
        try:
            caller(tmp_path)
        except (StripeError, AirflowFailException) as error:
            said = str(error)
        assert_only_ours_begins_a_line(said)

    return check


fuzz = settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@given(caller=st.sampled_from(CALLERS), body=damaged() | VALUES.map(lambda v: json.dumps(v).encode()))
@fuzz
def test_any_body(survives, caller, body):
    survives(caller, OK + b"\r\n" + body)


@given(caller=st.sampled_from(CALLERS), status=STATUSES, headers=HEADERS, error=VALUES | damaged())
@fuzz
def test_any_status_and_headers(survives, caller, status, headers, error):
    body = error if isinstance(error, bytes) else json.dumps({"error": error}).encode()
    head = b"\r\n".join([b"HTTP/1.1 " + status, *(name + b": " + value for name, value in headers), b"", b""])
    survives(caller, head + body)


@given(
    caller=st.sampled_from(CALLERS),
    start=st.sampled_from([b"", b"H", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"]),
    rest=st.binary(max_size=200) | st.lists(PIECES).map(b"".join),
)
@fuzz
def test_any_bytes(survives, caller, start, rest):
    survives(caller, start + rest)

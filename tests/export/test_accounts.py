"""Several connected accounts in one task and one object."""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.accounts import accounts
from support.airflow_versions import said_by_us

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._export import progress
from airflow_provider_stripe_identity._export.windows import Window
from airflow_provider_stripe_identity._stripe_api import ranges
from airflow_provider_stripe_identity._stripe_api.accounts import Accounts
from airflow_provider_stripe_identity._stripe_api.errors import StripeError
from airflow_provider_stripe_identity._stripe_api.ranges import PAGES_AHEAD, Ranges
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.operators import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityEventsToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
)
from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

MAY_1, MAY_2 = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)
START, END = int(MAY_1.timestamp()), int(MAY_2.timestamp())
DAY = {"data_interval_start": MAY_1, "data_interval_end": MAY_2}
FAULTS = [Fault.reset(), Fault.status(500), Fault.cut_short(), Fault.rate_limited(), Fault.stuck_cursor()]


def export(folder: Path, kind: type = StripeIdentityToObjectStorageOperator, context: Any = None, **arguments: Any):
    """Run an export; return its result and its rows."""
    path = folder / "sessions.jsonl"
    operator = kind(task_id="export", destination=f"file://{path}", **arguments)
    result = operator.execute(context or DAY)
    return result, [json.loads(line) for line in path.read_text().splitlines()]


def sessions_of(server: StripeIdentityServer, account: str) -> list[str]:
    return [session["id"] for session in server.sessions(account=account, created={"gte": START, "lt": END})]


def asked(server: StripeIdentityServer) -> Counter[str]:
    """How many requests were sent for each account."""
    return Counter(request.headers["Stripe-Account"] for request in server.requests)


@pytest.fixture
def three(server: StripeIdentityServer) -> StripeIdentityServer:
    """Accounts with 250, 0 and 30 sessions, and sessions of the platform's own."""
    server.populate(10, START, END)
    for account, count in {"acct_b": 250, "acct_a": 0, "acct_c": 30}.items():
        server.connect_account(account)
        server.populate(count, START, END, account=account)
    return server


def test_every_row_names_its_account_in_the_order_of_the_accounts(three, tmp_path):
    result, rows = export(tmp_path, stripe_accounts=["acct_b", "acct_a", "acct_c"])
    assert [(row["_stripe_account"], row["id"]) for row in rows] == [
        (account, session) for account in ("acct_b", "acct_a", "acct_c") for session in sessions_of(three, account)
    ]
    of_accounts = {name: result[name] for name in ("accounts", "accounts_with_rows", "accounts_skipped", "skipped")}
    assert of_accounts == {"accounts": 3, "accounts_with_rows": 2, "accounts_skipped": 0, "skipped": []}
    assert result["sessions"] == 280


@pytest.mark.parametrize(
    "given",
    [
        "connected",
        ["acct_c", "acct_a", "acct_b", "acct_c"],
        '["acct_c", "acct_a", "acct_b"]',
        "['acct_c', 'acct_a', 'acct_b']",
        ("acct_c", "acct_a", "acct_b"),
    ],
)
def test_accounts_may_be_given_as_a_list_text_of_a_list_or_connected(three, tmp_path, given):
    operator = StripeIdentityToObjectStorageOperator(
        task_id="export", destination=f"file://{tmp_path}/x.jsonl", stripe_accounts="{{ accounts }}"
    )
    operator.stripe_accounts = given  # as a template or another task's result has made it
    assert operator.execute(DAY)["sessions"] == 280
    found = {json.loads(line)["_stripe_account"] for line in (tmp_path / "x.jsonl").read_text().splitlines()}
    assert found == {"acct_b", "acct_c"}


DAG_FILE = """
from datetime import UTC, datetime

from airflow.sdk import DAG, task
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

with DAG("accounts", schedule=None):

    @task
    def accounts():
        return ["acct_c", "acct_a", "acct_b"]

    found = accounts()
    for name, given in {{"result": found, "template": "{{{{ ti.xcom_pull(task_ids='accounts') }}}}"}}.items():
        found >> StripeIdentityToObjectStorageOperator(
            task_id=name,
            destination=f"file://{folder}/{{name}}.jsonl",
            stripe_accounts=given,
            created_gte=datetime(2026, 5, 1, tzinfo=UTC),
            created_lt=datetime(2026, 5, 2, tzinfo=UTC),
        )
"""


def test_accounts_may_be_the_result_of_another_task(three, tmp_path, run_dag_file):
    """Given as it is, and through a template, in a DAG that Airflow runs."""
    run = run_dag_file(DAG_FILE.format(folder=tmp_path))
    assert run.state == "success"
    for name in ("result", "template"):
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        assert [row["_stripe_account"] for row in rows] == ["acct_c"] * 30 + ["acct_b"] * 250


def test_connected_accounts_are_listed_in_pages_and_only_as_ids(server, hook):
    names = [f"acct_{n:03}" for n in range(230)]
    for n, account in enumerate(names):
        server.connect_account(account, created=START + n)
    server.revoke_account("acct_007")
    assert hook.list_connected_accounts() == [name for name in reversed(names) if name != "acct_007"]
    assert len(server.requests) == 3


def test_a_list_of_accounts_whose_cursor_is_ignored_is_an_error(server, hook, instant_backoff):
    for n in range(101):
        server.connect_account(f"acct_{n}")
    server.fault_every(1, Fault.stuck_cursor())
    with pytest.raises(StripeError, match="cursor does not move"):
        hook.list_connected_accounts()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stripe_accounts": []}, "stripe_accounts is empty"),
        ({"stripe_accounts": "acct_1"}, "must be a list"),
        ({"stripe_accounts": ["acct_1\r\nX: x"]}, "holds 'acct_1"),
        ({"stripe_accounts": ["acct_1/../x"]}, "holds 'acct_1"),
        ({"stripe_accounts": ["cus_1"]}, "holds 'cus_1"),
        ({"stripe_accounts": ["acct_1", None]}, "holds None"),
        ({"stripe_accounts": ["acct_1"], "stripe_account": "acct_2"}, "exclude each other"),
        ({"skip_unreadable_accounts": True}, "stripe_accounts, which is not set"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_dag_is_parsed(arguments, message):
    with pytest.raises(ValueError, match=message):
        StripeIdentityToObjectStorageOperator(task_id="export", destination="file:///tmp/x.jsonl", **arguments)


@pytest.mark.parametrize("given", [[], None, "None", "[]", "connected", "{'acct_1': 1", ["acct_1 "]])
def test_what_a_template_makes_of_it_is_refused_before_sessions_are_read(server, tmp_path, given):
    operator = StripeIdentityToObjectStorageOperator(
        task_id="export", destination=f"file://{tmp_path}/x.jsonl", stripe_accounts="{{ accounts }}"
    )
    operator.stripe_accounts = given
    if given is None:  # a task that returned nothing
        operator.stripe_accounts = iter(())  # type: ignore[assignment]
    with pytest.raises(AirflowFailException, match="stripe_accounts"):
        operator.execute(DAY)
    assert not [request for request in server.requests if "identity" in request.path]


def test_unreadable_accounts_are_all_named_after_the_others_were_tried_and_the_object_stays(three, tmp_path):
    (tmp_path / "sessions.jsonl").write_text("old\n")
    three.connect_account("acct_gone")
    three.revoke_account("acct_gone")
    accounts = ["acct_c", "acct_gone", "acct_a", "acct_unknown", "acct_b"]
    with pytest.raises(AirflowFailException, match="2 of 5 accounts cannot be read:\nacct_gone, acct_unknown: GET"):
        export(tmp_path, stripe_accounts=accounts, max_concurrency=1)
    assert (tmp_path / "sessions.jsonl").read_text() == "old\n"
    # Those behind the first such account were tried with one request and not read.
    assert asked(three) == dict.fromkeys(accounts, 1)


def test_unreadable_accounts_are_skipped_where_that_was_asked_for(three, tmp_path, caplog):
    accounts = ["acct_gone", "acct_b", "acct_unknown", "acct_a", "acct_c"]
    result, rows = export(tmp_path, stripe_accounts=accounts, skip_unreadable_accounts=True)
    assert [row["id"] for row in rows] == [*sessions_of(three, "acct_b"), *sessions_of(three, "acct_c")]
    assert (result["accounts"], result["accounts_skipped"], result["skipped"]) == (5, 2, ["acct_gone", "acct_unknown"])
    (warning,) = said_by_us([record for record in caplog.records if record.levelno == logging.WARNING])
    assert "Skipped 2 of 5 accounts" in warning
    assert "acct_gone, acct_unknown" in warning
    assert three.api_key not in warning
    assert warning.isprintable(), "in one line"


@pytest.mark.parametrize("skip", [False, True])
def test_when_no_account_can_be_read_the_task_fails_and_the_object_stays(three, tmp_path, skip):
    (tmp_path / "sessions.jsonl").write_text("old\n")
    for account in ("acct_a", "acct_b", "acct_c"):
        three.revoke_account(account)
    with pytest.raises(AirflowFailException, match="3 of 3 accounts cannot be read:\nacct_b, acct_a, acct_c: "):
        export(tmp_path, stripe_accounts=["acct_b", "acct_a", "acct_c"], skip_unreadable_accounts=skip)
    assert (tmp_path / "sessions.jsonl").read_text() == "old\n"


def test_a_transient_error_skips_no_account(three, tmp_path, instant_backoff):
    (tmp_path / "sessions.jsonl").write_text("old\n")
    answer_503 = Fault.status(503).response
    three.after_answer = lambda request, _: answer_503 if request.headers["Stripe-Account"] == "acct_a" else None
    with pytest.raises(StripeError) as caught:
        export(tmp_path, stripe_accounts=["acct_b", "acct_a", "acct_c"], skip_unreadable_accounts=True)
    assert caught.value.status == 503
    assert (tmp_path / "sessions.jsonl").read_text() == "old\n"


@pytest.mark.parametrize("status", [400, 401])
def test_an_error_that_is_not_of_the_account_skips_none(three, tmp_path, status):
    wrong = Fault.status(status).response
    three.after_answer = lambda request, _: wrong if request.headers["Stripe-Account"] == "acct_a" else None
    with pytest.raises(AirflowFailException, match=str(status)):
        export(tmp_path, stripe_accounts=["acct_b", "acct_a", "acct_c"], skip_unreadable_accounts=True)


@pytest.mark.parametrize("at", range(1, 12, 2))
@pytest.mark.parametrize("skip", [False, True])
def test_an_account_that_is_revoked_while_it_is_read_is_whole_or_absent(server, tmp_path, at, skip):
    for account in ("acct_1", "acct_2", "acct_3"):
        server.populate(350, START, END, account=account)
    numbers = itertools.count()

    def revoke(request):
        if next(numbers) == at:
            server.revoke_account("acct_2")

    server.before_answer = revoke
    arguments = {"stripe_accounts": ["acct_1", "acct_2", "acct_3"], "skip_unreadable_accounts": skip}
    try:
        result, rows = export(tmp_path, **arguments)
    except AirflowFailException:
        assert not skip
    except StripeError:  # it had begun to be written: the next try of the task skips it
        assert skip
        _, rows = export(tmp_path, **arguments)
        assert {row["_stripe_account"] for row in rows} == {"acct_1", "acct_3"}
    else:
        counts = Counter(row["_stripe_account"] for row in rows)
        assert counts["acct_2"] == (0 if result["skipped"] else 350)
        assert (counts["acct_1"], counts["acct_3"]) == (350, 350)


def test_an_account_that_is_revoked_when_a_part_of_it_was_yielded_is_an_error_that_a_retry_cures(server):
    server.populate(20_000, START, END, account="acct_1")
    server.populate(10, START, END, account="acct_2")
    accounts = Accounts(["acct_1", "acct_2"], skip_unreadable=True)
    sessions = StripeIdentityHook().list_verification_sessions(created_gte=START, created_lt=END, accounts=accounts)
    assert next(sessions)["_stripe_account"] == "acct_1"
    server.revoke_account("acct_1")
    with pytest.raises(StripeError, match="account acct_1 withdrew its access while it was read") as caught:
        list(sessions)
    assert (caught.value.permanent, caught.value.retryable) == (False, True)


seconds = st.lists(st.integers(START, END - 1) | st.integers(START + 40_000, START + 40_020), max_size=40)


@pytest.mark.usefixtures("instant_backoff")
@given(
    distribution=st.lists(seconds, min_size=1, max_size=7),
    revoked=st.sets(st.integers(0, 9), max_size=3),
    page_size=st.integers(1, 9),
    workers=st.integers(1, 6),
    ahead=st.sampled_from([1, 2, 16]),
    pages_a_range=st.integers(1, 3),
    risk=st.sampled_from([0.0, 3.0]),
    faults=st.none() | st.integers(2, 9),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_rows_as_each_account_by_itself(
    shared_server, distribution, revoked, page_size, workers, ahead, pages_a_range, risk, faults
):
    """Whatever their sessions, with faults, and with some that cannot be read among them."""
    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
    from airflow_provider_stripe_identity._stripe_api.listing import list_objects
    from airflow_provider_stripe_identity._stripe_api.pages import VERIFICATION_SESSIONS

    def client(**arguments: Any) -> StripeIdentityClient:
        return StripeIdentityClient(
            shared_server.api_key,
            base_url=shared_server.url,
            max_requests_per_second=10_000,
            max_concurrency=workers,
            max_retries=30,
            **arguments,
        )

    window = {"created_gte": START, "created_lt": END, "page_size": page_size}
    ids = [next(accounts) for _ in distribution]
    for account, created in zip(ids, distribution, strict=True):
        shared_server.connect_account(account)
        for second in created:
            shared_server.create_session(account=account, created=second)
    alone = [
        (account, session["id"])
        for account in ids
        for session in list_objects(client(stripe_account=account), VERIFICATION_SESSIONS, (), **window)
    ]
    gone = {ids[number] for number in revoked if number < len(ids) - 1}
    for account in gone:
        shared_server.revoke_account(account)
    read = Accounts(ids, skip_unreadable=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "PAGES_A_RANGE", pages_a_range)
        patch.setattr(ranges, "PAGES_AHEAD", ahead)
        patch.setattr(ranges, "RISK", risk)
        if faults:
            shared_server.fault_every(faults, *FAULTS, seed=1)
        try:
            together = [
                (session["_stripe_account"], session["id"])
                for session in list_objects(client(), VERIFICATION_SESSIONS, (), accounts=read, **window)
            ]
        finally:
            shared_server.clear_faults()
    assert together == [found for found in alone if found[0] not in gone]
    assert set(read.unreadable) == gone


@pytest.fixture
def lenient(shared_server, monkeypatch):
    """The connection of the module's server, which tries often enough for any number of faults."""
    connection = json.loads(shared_server.airflow_connection()) | {"extra": {"max_retries": 30}}
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))


@pytest.mark.usefixtures("instant_backoff", "lenient")
@given(
    distribution=st.lists(seconds, min_size=1, max_size=5),
    revoked=st.sets(st.integers(0, 6), max_size=2),
    workers=st.integers(1, 6),
    status=st.none() | st.sampled_from(["verified", "requires_input"]),
    faults=st.none() | st.integers(2, 9),
)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_operator_writes_what_it_would_write_of_each_account_by_itself(
    shared_server, tmp_path, distribution, revoked, workers, status, faults
):
    """Every field of every row, whatever the accounts, the filter, the requests at once and the faults."""
    ids = [next(accounts) for _ in distribution]
    for account, created in zip(ids, distribution, strict=True):
        shared_server.connect_account(account)
        for number, second in enumerate(created):
            shared_server.create_session(
                account=account,
                created=second,
                status="verified" if number % 3 == 0 else "requires_input",
                client_reference_id=f"{account}_{number}",
            )
    gone = {ids[number] for number in revoked if number < len(ids) - 1}
    alone = []
    for account in ids:
        _, rows = export(tmp_path, stripe_account=account, status=status)
        alone += [row | {"_stripe_account": account} for row in rows if account not in gone]
    for account in gone:
        shared_server.revoke_account(account)
    if faults:
        shared_server.fault_every(faults, *FAULTS, seed=1)
    try:
        result, together = export(
            tmp_path, stripe_accounts=ids, skip_unreadable_accounts=True, status=status, max_concurrency=workers
        )
    finally:
        shared_server.clear_faults()
    assert together == alone
    assert result["sessions"] == len(alone)
    assert result["accounts_skipped"] == len(gone)


def test_progress_counts_the_accounts(monkeypatch, caplog):
    """By time: here every session takes ten seconds."""
    clock = itertools.count(0, 10)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    sessions = [
        {"created": 99 - 10 * number, "_stripe_account": account}
        for account in ("acct_1", "acct_3")
        for number in range(6)
    ]
    three = Accounts(["acct_1", "acct_2", "acct_3"])
    with caplog.at_level(logging.INFO, progress.__name__):
        assert list(progress.with_progress(sessions, Window(0, 100), accounts=three)) == sessions
    assert caplog.messages == [
        "3 sessions, 7 % of the windows (account 1 of 3), 0 sessions/s, about 399 s left",
        "6 sessions, 17 % of the windows (account 1 of 3), 0 sessions/s, about 293 s left",
        "9 sessions, 74 % of the windows (account 3 of 3), 0 sessions/s, about 32 s left",
        "12 sessions, 84 % of the windows (account 3 of 3), 0 sessions/s, about 23 s left",
    ]


@pytest.mark.parametrize("accounts_given", [["acct_b", "acct_c"], None], ids=str)
def test_openlineage_has_the_column_where_the_rows_have_it(three, tmp_path, accounts_given):
    operator = StripeIdentityToObjectStorageOperator(
        task_id="export",
        destination=f"file://{tmp_path}/x.jsonl",
        fields=["id", "status"],
        stripe_accounts=accounts_given,
    )
    operator.execute(DAY)
    lineage = operator.get_openlineage_facets_on_complete(None)
    (written,) = lineage.outputs
    assert written.outputFacets["outputStatistics"].rowCount == (280 if accounts_given else 10)
    columns = {field.name: field for field in written.facets["schema"].fields}
    assert [*columns] == ["id", "status", *(["_stripe_account"] if accounts_given else [])]
    if accounts_given:
        assert columns["_stripe_account"].type == "text"
        assert "acct_" in columns["_stripe_account"].description


def test_pages_that_wait_are_bounded_whatever_the_number_of_accounts():
    workers = 4
    accounts = [f"acct_{n}" for n in range(1_000)]
    of_all = Ranges(START, END, workers=workers, accounts=accounts)
    first = of_all.take()  # never answered: everything waits for it
    read = 0
    while found := of_all.take():
        of_all.add(found, [{"id": str(read), "created": END - 1}], has_more=False)
        read += 1
    assert first.account == "acct_0"
    assert read <= PAGES_AHEAD * workers + workers


def test_three_hundred_accounts_cost_a_request_each_and_the_pages_of_the_large_one(server, tmp_path, monkeypatch):
    """280 have nothing in the window, 19 a few sessions, one 20,000; 20 requests per second, of 25 that are allowed."""
    accounts = [f"acct_{n:03}" for n in range(300)]
    for n, account in enumerate(accounts):
        server.connect_account(account, created=START - n)
        if n % 15 == 5:
            server.populate(20_000 if n == 155 else 20, START, END, account=account)
    server.rate_limit = 25
    connection = json.loads(server.airflow_connection()) | {"extra": {"max_requests_per_second": 20}}
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
    result, rows = export(tmp_path, stripe_accounts="connected")
    assert [(row["_stripe_account"], row["id"]) for row in rows] == [
        (account, session) for account in accounts for session in sessions_of(server, account)
    ]
    assert len({row["id"] for row in rows}) == len(rows) == 20_000 + 19 * 20
    assert result["accounts_with_rows"] == 20
    assert len(server.requests) <= (300 + 205) * 1.03
    assert 429 not in {request.status for request in server.requests}


def test_the_result_stays_small_with_a_thousand_accounts_most_of_them_revoked(server, tmp_path):
    server.populate(5, START, END, account="acct_0")
    accounts = [f"acct_{n:021}" for n in range(1_000)]
    result, _ = export(tmp_path, stripe_accounts=["acct_0", *accounts], skip_unreadable_accounts=True)
    assert result["accounts_skipped"] == 1_000
    assert len(json.dumps(result)) < 1_024


@pytest.fixture
def changing(server: StripeIdentityServer) -> dict[str, Any]:
    """Two accounts in which sessions changed in the last hour; return the context of a run for that hour."""
    now = datetime.now(UTC).replace(microsecond=0)
    for account in ("acct_1", "acct_2"):
        for reference in ("kept", "verified"):
            session = server.create_session(
                account=account, client_reference_id=reference, created=now - timedelta(minutes=50)
            )
            if reference == "verified":
                server.verify(session["id"], event_created=now - timedelta(minutes=40))
    server.connect_account("acct_3")
    return {"data_interval_start": now - timedelta(hours=1), "data_interval_end": now - timedelta(minutes=2)}


@pytest.mark.parametrize("refetch", [False, True])
def test_changes_of_several_accounts(server, changing, tmp_path, refetch):
    result, rows = export(
        tmp_path,
        StripeIdentityChangesToObjectStorageOperator,
        changing,
        stripe_accounts=["acct_2", "acct_3", "acct_1"],
        refetch=refetch,
    )
    assert Counter((row["_stripe_account"], row["status"]) for row in rows) == {
        ("acct_1", "requires_input"): 1,
        ("acct_1", "verified"): 1,
        ("acct_2", "requires_input"): 1,
        ("acct_2", "verified"): 1,
    }
    assert [row["_stripe_account"] for row in rows] == ["acct_2", "acct_2", "acct_1", "acct_1"]
    assert all(row["_event_id"] for row in rows)
    assert result["accounts_with_rows"] == 2
    sessions = {row["id"]: row["_stripe_account"] for row in rows}
    read = [request for request in server.requests if request.path.rpartition("/")[2] in sessions]
    assert len(read) == (4 if refetch else 0)
    assert all(request.headers["Stripe-Account"] == sessions[request.path.rpartition("/")[2]] for request in read)


def test_the_history_of_several_accounts(server, changing, tmp_path):
    result, rows = export(
        tmp_path,
        StripeIdentityEventsToObjectStorageOperator,
        changing,
        stripe_accounts=["acct_1", "acct_2", "acct_gone"],
        skip_unreadable_accounts=True,
    )
    by_account = Counter(row["_stripe_account"] for row in rows)
    assert by_account["acct_1"] == by_account["acct_2"] == result["events"] / 2 > 2
    assert result["skipped"] == ["acct_gone"]


def test_mapped_tasks_may_add_the_column_themselves(three, tmp_path):
    _, rows = export(tmp_path, stripe_account="acct_c", extra_columns={"_stripe_account": "acct_c"})
    assert {row["_stripe_account"] for row in rows} == {"acct_c"}
    with pytest.raises(AirflowFailException, match="_stripe_account"):
        export(tmp_path, stripe_accounts=["acct_c"], extra_columns={"_stripe_account": "acct_c"})


@pytest.mark.parametrize("found", ["acct_c", "acct_a"], ids=["with sessions", "without"])
def test_the_dashboard_link_leads_to_the_connected_accounts(three, tmp_path, found):
    operator = StripeIdentityToObjectStorageOperator(
        task_id="export", destination=f"file://{tmp_path}/x.jsonl", stripe_accounts=[found]
    )
    assert operator.dashboard_url() == ""
    operator.execute(DAY)
    assert operator.dashboard_url() == "https://dashboard.stripe.com/test/connect/accounts/overview"


def test_all_requests_of_all_accounts_share_one_limit(three, tmp_path):
    three.concurrency_limit = 2
    result, _ = export(tmp_path, stripe_accounts=["acct_b", "acct_a", "acct_c"], max_concurrency=2)
    assert result["sessions"] == 280
    assert 429 not in {request.status for request in three.requests}
    assert StripeIdentityHook().client.acting_on("acct_a").headers["Stripe-Account"] == "acct_a"

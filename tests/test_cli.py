"""``airflow stripe-identity``, through Airflow's own parser."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import requests
import yaml
from support.airflow_versions import cli_of_providers

from airflow_provider_stripe_identity._explorer.snippets import dag
from airflow_provider_stripe_identity._stripe_api.parameters import STATUSES
from airflow_provider_stripe_identity.schema import DIALECTS, ddl, events, funnel, json_schema, timeline
from airflow_provider_stripe_identity.testing import StripeIdentityServer

pytestmark = cli_of_providers

MAY_1 = int(datetime(2026, 5, 1, tzinfo=UTC).timestamp())
SECRET = {"client_secret": "vs_marked_secret", "url": "https://verify.stripe.com/marked"}
PERSONAL = {"verified_outputs": {"first_name": "Marked"}, "provided_details": {"email": "marked@example.com"}}


@pytest.fixture(scope="module")
def parser():
    from airflow.cli.cli_parser import get_parser

    return get_parser()


@pytest.fixture
def run(server, capsys, parser):
    """Run a command and return what it printed; a command that fails raises SystemExit."""

    def run(line: str) -> str:
        args = parser.parse_args(["stripe-identity", *shlex.split(line)])
        capsys.readouterr()
        args.func(args)
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ("", {}),
        ("--client-reference-id 'user 1'", {"client_reference_id": "user 1"}),
        ("--created 1777593600", {"created": "1777593600"}),
        (
            "--created-gt 2026-05-01T00:00:00Z --created-lte 2026-05-02T00:00:00+02:00",
            {"created[gt]": "1777593600", "created[lte]": "1777672800"},
        ),
        ("--created-gte 0 --created-lt 9", {"created[gte]": "0", "created[lt]": "9"}),
        ("--status verified --limit 7", {"status": "verified", "limit": "7"}),
        ("--related-customer cus_1", {"related_customer": "cus_1"}),
        ("--related-customer-account acct_1", {"related_customer_account": "acct_1"}),
        ("--expand data.verified_outputs", {"expand[]": "data.verified_outputs"}),
    ],
)
def test_every_parameter_of_the_endpoint_is_an_option(run, server, options, query):
    run(f"list {options}")
    (request,) = server.requests
    assert dict(request.query) == query


def test_the_cursors_are_options(run, server):
    first, second, third = (server.create_session(created=MAY_1 + n)["id"] for n in (2, 1, 0))
    assert [row["id"] for row in json.loads(run(f"list -o json --starting-after {first}"))] == [second, third]
    assert [row["id"] for row in json.loads(run(f"list -o json --ending-before {third}"))] == [first, second]


def test_the_next_page_is_named(server, parser, capsys):
    server.create_session(created=MAY_1)
    newest = server.create_session(created=MAY_1 + 1)["id"]
    args = parser.parse_args(["stripe-identity", "list", "--limit", "1"])
    args.func(args)
    assert f"--starting-after {newest}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "get"])
@pytest.mark.parametrize("output", ["table", "json", "yaml", "plain"])
def test_neither_credentials_nor_personal_data_are_shown_unless_named(run, server, command, output):
    session = server.create_session(status="verified", **SECRET, **PERSONAL)
    target, prefix = ("list", "data.") if command == "list" else (f"get {session['id']}", "")
    shown = run(f"{target} --output {output}")
    assert session["id"] in shown
    assert not any(text in shown for text in ("Marked", "marked@", *SECRET.values()))
    shown = run(f"{target} --output {output} --expand {prefix}verified_outputs --fields id provided_details")
    assert "Marked" in shown
    assert "marked@" in shown
    for secret in ("client_secret", "url"):
        with pytest.raises(SystemExit, match=secret):
            run(f"{target} --output {output} --fields {secret}")


def test_what_is_printed_as_json_or_yaml_has_stripes_values(run, server):
    session = server.create_session(created=MAY_1, metadata={"ünïcode": "a\nb"}, **PERSONAL)
    wanted = {name: value for name, value in session.items() if name in ("id", "created", "metadata", "last_error")}
    assert json.loads(run("list -o json --fields id created metadata last_error")) == [wanted]
    assert yaml.safe_load(run("list -o yaml --fields id created metadata last_error")) == [wanted]


@pytest.mark.parametrize("output", ["table", "plain"])
def test_a_table_has_the_columns_in_the_order_asked_for_and_no_control_characters(run, server, output):
    server.create_session(created=MAY_1, client_reference_id="[red]\x1b[31m\x9bm")
    server.create_session(created=MAY_1 + 1, client_reference_id="plain [b]text")
    shown = run(f"list -o {output} --fields status client_reference_id related_person created")
    assert shown.split("\n")[0].replace("|", "").split() == [
        "status",
        "client_reference_id",
        "related_person",
        "created",
    ]
    assert "plain [b]text" in shown
    assert '"[red]\\u001b[31m\\u009bm"' in shown
    assert "2026-05-01T00:00:00Z" in shown
    assert not {"\x1b", "\x9b"} & set(shown)


def test_a_session_that_does_not_exist_is_said_with_what_to_do(run):
    with pytest.raises(SystemExit) as ended:
        run("get vs_none")
    problem, advice, request_id = str(ended.value).split("\n")
    assert "No such" in problem
    assert "Check the id" in advice
    assert "Request-Id req_" in request_id


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("list --limit 101", "limit"),
        ("list --limit 0", "limit"),
        ("list --limit 0 --snippet dag", "limit"),
        ("list --client-reference-id ''", "client_reference_id"),
        ("list --client-reference-id '' --snippet hook", "client_reference_id"),
        ("list --starting-after ''", "starting_after"),
        ("list --created 1 --created-gt 2", "--created"),
        ("list --created-gte yesterday", "created"),
        ("list --expand verified_outputs", "data.verified_outputs"),
        ("get ../account", "session_id"),
        ("check --conn-id nowhere", "nowhere"),
    ],
)
def test_what_is_wrong_is_named_before_any_request(run, server, options, named):
    with pytest.raises(SystemExit, match=named):
        run(options)
    assert not server.requests


def test_check_says_what_works_and_what_does_not(run, monkeypatch):
    said = run("check")
    assert "test mode" in said
    assert "events can be read" in said
    assert "Explorer: off; with [stripe_identity] explorer_enabled = True" in said
    monkeypatch.setenv("AIRFLOW__STRIPE_IDENTITY__EXPLORER_ENABLED", "True")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/team/")
    assert "Explorer: https://airflow.example.com/team/stripe-identity/" in run("check")
    with StripeIdentityServer(api_key="sk_test_other") as other:
        connection = json.loads(other.airflow_connection()) | {"password": "sk_test_wrong"}
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
        with pytest.raises(SystemExit, match="key"):
            run("check")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_ddl_is_that_of_the_schema(run, dialect):
    assert run(f"ddl --dialect {dialect}") == ddl(dialect, "verification_sessions")
    shown = run(f"ddl --dialect {dialect} --table raw.sessions --fields id status verified_outputs")
    assert shown == ddl(dialect, "raw.sessions", fields=["id", "status", "verified_outputs"])
    with pytest.raises(SystemExit, match="client_secret"):
        run(f"ddl --dialect {dialect} --fields id client_secret")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_table_of_events_and_its_views_are_those_of_the_schema(run, dialect):
    assert run(f"ddl --rows events --dialect {dialect}") == events.ddl(dialect, "verification_session_events")
    assert run(f"ddl --rows events --table raw.history --dialect {dialect}") == events.ddl(dialect, "raw.history")
    created = "CREATE OR REPLACE VIEW verification_session_{} AS\n"
    of_events = created.format("timeline") + timeline(dialect, "verification_session_events")
    assert run(f"view timeline --dialect {dialect}") == of_events
    of_timeline = created.format("funnel") + funnel(dialect, "verification_session_timeline")
    assert run(f"view funnel --dialect {dialect}") == of_timeline
    shown = run(f"view funnel --dialect {dialect} --name bi.funnel --of raw.timeline")
    assert shown == f"CREATE OR REPLACE VIEW bi.funnel AS\n{funnel(dialect, 'raw.timeline')}"


def test_what_is_no_warehouse_takes_the_json_schema(run):
    assert json.loads(run("ddl --dialect json-schema")) == json_schema()
    assert json.loads(run("ddl --dialect json-schema --rows events")) == events.json_schema()


def test_the_emulator_serves_until_it_is_told_to_stop():
    command = [sys.executable, "-m", "airflow", "stripe-identity", "emulator", "--port", "0", "--sessions", "25"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = next(line.strip() for line in process.stdout if line.startswith("http://"))
            with requests.Session() as session:
                session.trust_env = False
                page = session.get(f"{url}/v1/identity/verification_sessions?limit=100", auth=("sk_test_emulator", ""))
            assert len(page.json()["data"]) == 25
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def test_a_session_of_the_emulator_is_created_and_its_page_printed(run, server, monkeypatch):
    url = run("emulator-session --client-reference-id user_123").strip()
    (session,) = server.sessions(client_reference_id="user_123")
    assert session["url"] == url
    for connection, said in (
        ({"conn_type": "stripe_identity", "password": "sk_test_x"}, "does not lead to the emulator"),
        (json.loads(server.airflow_connection()) | {"password": "sk_test_wrong"}, "Invalid API Key"),
        (
            {"conn_type": "stripe_identity", "host": "http://127.0.0.1:9", "password": "sk_test_x"},
            "no emulator answers",
        ),
    ):
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
        with pytest.raises(SystemExit, match=said):
            run("emulator-session")


def test_no_command_pays_for_the_emulator():
    """Airflow loads the commands of every provider whenever it is called."""
    code = (
        "import sys, airflow_provider_stripe_identity.cli as cli\ncli.get_commands()\n"
        "sys.exit('airflow_provider_stripe_identity.testing.server' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Snippets

SAME_REQUEST = (
    '--client-reference-id "it\'s \\"1\\" $HOME &" --created-gt 1777593599 --created-lte 1777679999 '
    "--status requires_input --related-customer cus_1 --expand data.last_verification_report --limit 5"
)


@pytest.mark.parametrize("kind", ["curl", "hook", "python"])
def test_a_snippet_is_the_same_request(run, server, kind):
    shown = run(f"list {SAME_REQUEST} --snippet {kind}")
    assert not server.requests
    assert server.api_key not in shown
    run(f"list {SAME_REQUEST}")
    interpreter = ["bash", "-euc"] if kind == "curl" else [sys.executable, "-c"]
    key = {"STRIPE_API_KEY": server.api_key}
    subprocess.run([*interpreter, shown], env=os.environ | key, check=True, capture_output=True)
    by_option, by_snippet = server.requests
    # Stripe's package for Python numbers the items of a list.
    query = [(name.replace("[0]", "[]"), value) for name, value in by_snippet.query]
    assert sorted(query) == sorted(by_option.query)
    assert by_snippet.headers["Authorization"]


def test_a_curl_behind_a_gateway_sends_no_key(run, monkeypatch):
    with StripeIdentityServer(gateway=True) as gateway:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", gateway.airflow_connection())
        shown = run("list --snippet curl")
        subprocess.run(["bash", "-euc", shown], check=True, capture_output=True)
        (request,) = gateway.requests
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    ("options", "window"),
    [
        ("--created 1777593600", (MAY_1, MAY_1 + 1)),
        ("--created-gt 1777593599 --created-lte 1777593699", (MAY_1, MAY_1 + 100)),
        ("--created-gte 2026-05-01T00:00:00Z --created-lt 1777593700", (MAY_1, MAY_1 + 100)),
        ("--created-lt 1777593700", (0, MAY_1 + 100)),
        ("--created-gte 1777593600", (MAY_1, "run_after")),
        ("", ("run_after - 1 day", "run_after")),
    ],
)
def test_a_dag_snippet_exports_what_the_request_lists(run, run_dag_file, options, window, tmp_path):
    shown = run(f"list {options} --status verified --limit 3 --snippet dag")
    # An hour ago, so that the window need not settle first.
    run_after = datetime.now(UTC) - timedelta(hours=1)
    ran = run_dag_file(
        shown.replace("/tmp/verification_sessions", str(tmp_path)), logical_date=run_after, run_after=run_after
    )
    assert ran.state == "success"
    result = ran.get_task_instance("export").xcom_pull(task_ids="export")
    now = int(run_after.timestamp())
    ends = {"run_after": now, "run_after - 1 day": now - 86400}
    got = (result["created_gte"], result["created_lt"])
    assert all(abs(ends.get(end, end) - found) <= 1 for end, found in zip(window, got, strict=True))


def test_a_dag_snippet_keeps_every_filter(run, dags_folder):
    (dags_folder.path / "file.py").write_text(run(f"list {SAME_REQUEST} --snippet dag"))
    (dag,) = dags_folder.load().values()
    export = dag.get_task("export")
    assert export.client_reference_id == 'it\'s "1" $HOME &'
    assert (export.status, export.related_customer) == ("requires_input", "cus_1")
    assert list(export.expand) == ["data.last_verification_report"]


@pytest.mark.parametrize(
    "reference",
    [
        "{{ ds }}",
        "{% raw %}",
        "{# x #}",
        "{{{{{%}}",
        "a\r\nb\n",
        "{",
        "{{ '{{' }}",
        "{\n{",
        "\\{{ 'é' }}\"",
        "{% endraw %}{{",
    ],
)
def test_a_dag_snippet_asks_for_exactly_the_text(reference, dags_folder):
    (dags_folder.path / "file.py").write_text(dag("stripe", {"client_reference_id": reference, "status": "verified"}))
    (loaded,) = dags_folder.load().values()
    export = loaded.get_task("export")
    export.render_template_fields({"run_id": "manual", "ds": "2026-05-01"})
    assert export.client_reference_id == reference
    assert export.destination == "file:///tmp/verification_sessions/manual.jsonl"


def test_the_statuses_are_the_choices(run, capsys):
    with pytest.raises(SystemExit):
        run("list --status done")
    said = capsys.readouterr().err
    assert all(status in said for status in STATUSES)

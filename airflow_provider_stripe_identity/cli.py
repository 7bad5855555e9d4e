"""``airflow stripe-identity``: try a connection on Airflow's command line (Airflow 3.2 and newer)."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.cli.cli_config import (
    ARG_OUTPUT,
    ARG_VERBOSE,
    ActionCommand,
    Arg,
    CLICommand,
    GroupCommand,
    lazy_load_command,
)
from airflow.utils.cli import suppress_logs_and_warning
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity._export.jsonl import JsonLines
from airflow_provider_stripe_identity._stripe_api.parameters import (
    STATUSES,
    from_the_session_on,
    page_query,
    verification_sessions_query,
)
from airflow_provider_stripe_identity.schema import DIALECTS, events, sessions, views
from airflow_provider_stripe_identity.testing import options as emulator_options

if TYPE_CHECKING:
    from airflow_provider_stripe_identity.hooks import StripeIdentityHook

#: What fits into a terminal's line; ``--fields`` shows others.
TABLE_FIELDS = ("id", "created", "status", "type", "client_reference_id", "livemode")
TEXT_PARAMETERS = (
    "client_reference_id",
    "related_customer",
    "related_customer_account",
    "starting_after",
    "ending_before",
)
PAGING = ("limit", "starting_after", "ending_before")
JSON_SCHEMA = "json-schema"
TABLES = {"sessions": (sessions, "verification_sessions"), "events": (events, "verification_session_events")}
VIEWS = {
    "timeline": (views.timeline, "verification_session_timeline", "verification_session_events"),
    "funnel": (views.funnel, "verification_session_funnel", "verification_session_timeline"),
}
COMPARISONS = {"gt": "after", "gte": "at or after", "lt": "before", "lte": "at or before"}


def get_commands() -> list[CLICommand]:
    """Return the commands, for Airflow's provider info."""
    conn_id = Arg(
        ("--conn-id",),
        default="stripe_identity_default",
        help="connection of type stripe_identity (default: %(default)s)",
    )
    fields = Arg(
        ("--fields",), nargs="+", metavar="FIELD", help="what to show; personal data is shown only when named here"
    )
    expand = Arg(("--expand",), nargs="+", default=[], metavar="PATH", help="fields that Stripe is to expand")
    shown = (conn_id, fields, ARG_OUTPUT, ARG_VERBOSE)
    parameters = (
        *(Arg((_flag(name),), help=f"Stripe's {name}") for name in TEXT_PARAMETERS),
        Arg(
            ("--created",), type=_time, help="created in exactly this second: ISO 8601 with an offset, or epoch seconds"
        ),
        *(
            Arg((f"--created-{name}",), type=_time, help=f"created {words} this second")
            for name, words in COMPARISONS.items()
        ),
        Arg(("--status",), choices=STATUSES, help="only sessions with this status"),
        Arg(("--limit",), type=int, help="maximum number of sessions, 1 to 100 (default: Stripe's, 10)"),
        expand,
    )
    snippet = Arg(
        ("--snippet",),
        choices=("curl", "hook", "dag", "python", "typescript"),
        help="print the request as code instead of sending it, without the key",
    )
    table = (
        Arg(("--dialect",), choices=(*DIALECTS, JSON_SCHEMA), required=True, help="the warehouse's SQL"),
        Arg(
            ("--rows",),
            choices=tuple(TABLES),
            default="sessions",
            help="the latest state of each session, or every event (default: %(default)s)",
        ),
        Arg(("--table",), help="its name (default: verification_sessions or verification_session_events)"),
        Arg(("--fields",), nargs="+", metavar="FIELD", help="the operator's fields"),
    )
    view = (
        Arg(("view",), choices=tuple(VIEWS), help="one row per session, or one row per day and type of the sessions"),
        Arg(("--dialect",), choices=DIALECTS, required=True, help="the warehouse's SQL"),
        Arg(("--name",), help="of the view (default: verification_session_timeline or verification_session_funnel)"),
        Arg(
            ("--of",),
            metavar="TABLE",
            help="what it reads: for the timeline the table of events (default: verification_session_events), for the "
            "funnel the timeline (default: verification_session_timeline)",
        ),
    )
    return [
        GroupCommand(
            name="stripe-identity",
            help="Try a connection to Stripe Identity",
            subcommands=[
                ActionCommand("list", "List VerificationSessions", list_sessions, (*parameters, snippet, *shown)),
                ActionCommand(
                    "get", "Show a VerificationSession", get_session, (Arg(("id",), metavar="ID"), expand, *shown)
                ),
                ActionCommand("check", "Test the connection", check, (conn_id, ARG_VERBOSE)),
                ActionCommand("ddl", "Print the statement that creates a table of the rows", print_ddl, table),
                ActionCommand("view", "Print the statement that creates a view of the events", print_view, view),
                ActionCommand(
                    "emulator-session",
                    "Create a session in the emulator and print the address of its page",
                    create_emulator_session,
                    (Arg(("--client-reference-id",), help="whose session it is"), conn_id, ARG_VERBOSE),
                ),
                ActionCommand(
                    "emulator",
                    "Serve a generated Stripe account on this machine",
                    lazy_load_command("airflow_provider_stripe_identity.testing.__main__.serve"),
                    [Arg((flag,), **settings) for flag, settings in emulator_options.OPTIONS.items()],
                ),
            ],
        )
    ]


@suppress_logs_and_warning
@providers_configuration_loaded
def list_sessions(args: Namespace) -> None:
    """Send one request to the list endpoint and print its page."""
    with _errors_end_the_command():
        parameters = _parameters(args)
        hook = _hook(args.conn_id)
        if args.snippet:
            print(_snippet(args, hook, parameters))
            return
        page = hook.list_verification_sessions_page(**parameters)
        _print(page["data"], args, expand=from_the_session_on(args.expand))
    if page["has_more"]:
        print(f"There are more: --starting-after {page['data'][-1]['id']}", file=sys.stderr)


@suppress_logs_and_warning
@providers_configuration_loaded
def get_session(args: Namespace) -> None:
    """Retrieve one session and print it."""
    with _errors_end_the_command():
        session = _hook(args.conn_id).get_verification_session(args.id, expand=args.expand)
        _print([session], args, expand=args.expand)


@suppress_logs_and_warning
@providers_configuration_loaded
def check(args: Namespace) -> None:
    """Test the connection, whether or not Airflow's configuration lets the UI do so."""
    with _errors_end_the_command():
        works, message = _hook(args.conn_id).test_connection()
    if not works:
        raise SystemExit(message)
    print(message)
    print(_explorer())


@suppress_logs_and_warning
@providers_configuration_loaded
def create_emulator_session(args: Namespace) -> None:
    """Create a session in the emulator; whoever opens the address that is printed is the person."""
    import requests
    from airflow.models import Connection

    from airflow_provider_stripe_identity._stripe_api.client import is_loopback
    from airflow_provider_stripe_identity._stripe_api.pages import VERIFICATION_SESSIONS

    with _errors_end_the_command():
        base_url = _hook(args.conn_id).client.base_url
        if not is_loopback(urlsplit(base_url).hostname or ""):
            raise ValueError(
                f"{args.conn_id} does not lead to the emulator on this machine (start it: airflow stripe-identity "
                "emulator); sessions at Stripe are created by your application"
            )
        form = {"type": "document"}
        if args.client_reference_id is not None:
            form["client_reference_id"] = args.client_reference_id
        with requests.Session() as http:
            http.trust_env = False
            key = Connection.get_connection_from_secrets(args.conn_id).password or ""
            try:
                answer = http.post(base_url + VERIFICATION_SESSIONS, data=form, auth=(key, ""), timeout=10)
            except requests.ConnectionError:
                raise ValueError(f"no emulator answers at {base_url}: airflow stripe-identity emulator") from None
        if answer.status_code != 200:
            raise ValueError(answer.json()["error"]["message"])
    print(answer.json()["url"])


def print_ddl(args: Namespace) -> None:
    """Print what describes a table of the rows in a warehouse."""
    fields = args.fields or DEFAULT_FIELDS
    rows, name = TABLES[args.rows]
    with _errors_end_the_command():
        if args.dialect == JSON_SCHEMA:
            print(json.dumps(rows.json_schema(fields=fields), indent=2))
        else:
            print(rows.ddl(args.dialect, args.table or name, fields=fields), end="")


def print_view(args: Namespace) -> None:
    """Print the statement that creates a view over the table of events."""
    query, name, of = VIEWS[args.view]
    print(f"CREATE OR REPLACE VIEW {args.name or name} AS\n{query(args.dialect, args.of or of)}", end="")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _time(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


@contextmanager
def _errors_end_the_command() -> Iterator[None]:
    from airflow.sdk.exceptions import AirflowNotFoundException

    from airflow_provider_stripe_identity._stripe_api.errors import StripeError

    try:
        yield
    except (ValueError, StripeError, AirflowNotFoundException) as error:
        raise SystemExit(str(error)) from None


def _hook(conn_id: str) -> StripeIdentityHook:
    """Return a hook; in a command only Airflow's own model finds connections of the metadata database."""
    from airflow.models import Connection

    from airflow_provider_stripe_identity._connection.client import client_from_connection
    from airflow_provider_stripe_identity.hooks import StripeIdentityHook

    hook = StripeIdentityHook(conn_id)
    hook.client = client_from_connection(Connection.get_connection_from_secrets(conn_id))
    return hook


def _explorer() -> str:
    """Say how to open the explorer."""
    from airflow.configuration import conf

    from airflow_provider_stripe_identity._explorer.plugin import URL_PREFIX

    if conf.getboolean("stripe_identity", "explorer_enabled", fallback=False):
        base_url = conf.get("api", "base_url", fallback="") or "http://localhost:8080"
        return f"Explorer: {base_url.rstrip('/')}{URL_PREFIX}/"
    return "Explorer: off; with [stripe_identity] explorer_enabled = True it is in Airflow's UI under Browse"


def _parameters(args: Namespace) -> dict[str, Any]:
    """Return the endpoint's parameters that were given, by Stripe's names."""
    names = (*TEXT_PARAMETERS, "status", "limit")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if args.expand:
        given["expand"] = args.expand
    comparisons = {name: value for name in COMPARISONS if (value := getattr(args, f"created_{name}")) is not None}
    if comparisons and args.created is not None:
        raise ValueError("--created is one exact second, it does not go with --created-gt, -gte, -lt and -lte")
    created = args.created if args.created is not None else comparisons
    if created != {}:
        given["created"] = created
    # The hook checks them too; a snippet is printed without it.
    page_query(**{name: given[name] for name in PAGING if name in given})
    verification_sessions_query(**{name: value for name, value in given.items() if name not in PAGING})
    return given


def _snippet(args: Namespace, hook: StripeIdentityHook, parameters: dict[str, Any]) -> str:
    from airflow_provider_stripe_identity._explorer.snippets import Api, snippet

    return snippet(args.snippet, Api.of(hook.client), args.conn_id, parameters)


def _print(sessions: Iterable[dict[str, Any]], args: Namespace, *, expand: Iterable[str]) -> None:
    fields = args.fields or (DEFAULT_FIELDS if args.output in ("json", "yaml") else TABLE_FIELDS)
    lines = JsonLines(fields, expand=list(expand))
    rows = [lines.row(session) for session in sessions]
    if args.output == "json":
        print(json.dumps(rows, indent=2))
    elif args.output == "yaml":
        from airflow.utils import yaml

        print(yaml.safe_dump(rows, sort_keys=False, allow_unicode=True), end="")
    else:
        from airflow.cli.simple_table import AirflowConsole
        from rich.markup import escape

        as_text = escape if args.output == "table" else str
        columns = dict.fromkeys((*fields, *lines.columns))
        cells = [{name: as_text(_cell(name, row.get(name))) for name in columns} for row in rows]
        AirflowConsole().print_as(cells, args.output)


def _cell(name: str, value: Any) -> str:
    """Show a value in one line, and no control character of it as such."""
    import pendulum

    if name == "created":
        return pendulum.from_timestamp(value).to_iso8601_string()
    if isinstance(value, str) and value.isprintable():
        return value
    return "" if value is None else json.dumps(value)

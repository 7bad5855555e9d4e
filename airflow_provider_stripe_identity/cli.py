"""``airflow stripe-identity``: try a connection on Airflow's command line (Airflow 3.2 and newer)."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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

from airflow_provider_stripe_identity import emulator_options
from airflow_provider_stripe_identity.jsonl import DEFAULT_FIELDS, JsonLines
from airflow_provider_stripe_identity.schema import DIALECTS, ddl, json_schema
from airflow_provider_stripe_identity.stripe_api.parameters import STATUSES

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
JSON_SCHEMA = "json-schema"
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
        Arg(("--created",), type=_time, help="created in this very second: ISO 8601 with an offset, or epoch seconds"),
        *(
            Arg((f"--created-{name}",), type=_time, help=f"created {words} this second")
            for name, words in COMPARISONS.items()
        ),
        Arg(("--status",), choices=STATUSES, help="only sessions that have it now"),
        Arg(("--limit",), type=int, help="at most so many sessions, 1 to 100 (default: Stripe's, 10)"),
        expand,
    )
    snippet = Arg(
        ("--snippet",),
        choices=("curl", "hook", "dag"),
        help="send nothing: print the request as something to paste, without the key",
    )
    table = (
        Arg(("--dialect",), choices=(*DIALECTS, JSON_SCHEMA), required=True, help="the warehouse's SQL"),
        Arg(("--table",), default="verification_sessions", help="its name (default: %(default)s)"),
        Arg(("--fields",), nargs="+", metavar="FIELD", help="the operator's fields"),
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
        _print(page["data"], args, expand=args.expand)
    if page["has_more"]:
        print(f"There are more: --starting-after {page['data'][-1]['id']}", file=sys.stderr)


@suppress_logs_and_warning
@providers_configuration_loaded
def get_session(args: Namespace) -> None:
    """Retrieve one session and print it."""
    with _errors_end_the_command():
        session = _hook(args.conn_id).get_verification_session(args.id, expand=args.expand)
        _print([session], args, expand=[f"data.{path}" for path in args.expand])


@suppress_logs_and_warning
@providers_configuration_loaded
def check(args: Namespace) -> None:
    """Test the connection, whether or not Airflow's configuration lets the UI do so."""
    with _errors_end_the_command():
        works, message = _hook(args.conn_id).test_connection()
    if not works:
        raise SystemExit(message)
    print(message)


def print_ddl(args: Namespace) -> None:
    """Print what describes a table of the rows in a warehouse."""
    fields = args.fields or DEFAULT_FIELDS
    with _errors_end_the_command():
        if args.dialect == JSON_SCHEMA:
            print(json.dumps(json_schema(fields=fields), indent=2))
        else:
            print(ddl(args.dialect, args.table, fields=fields), end="")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _time(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


@contextmanager
def _errors_end_the_command() -> Iterator[None]:
    from airflow.sdk.exceptions import AirflowNotFoundException

    from airflow_provider_stripe_identity.stripe_api import StripeError

    try:
        yield
    except (ValueError, StripeError, AirflowNotFoundException) as error:
        raise SystemExit(str(error)) from None


def _hook(conn_id: str) -> StripeIdentityHook:
    """Return a hook; in a command only Airflow's own model finds connections of the metadata database."""
    from airflow.models import Connection

    from airflow_provider_stripe_identity.hooks import StripeIdentityHook, client_from_connection

    connection = Connection.get_connection_from_secrets(conn_id)
    hook = StripeIdentityHook(conn_id)
    hook.client = client_from_connection(connection, connection.extra_dejson)
    return hook


def _parameters(args: Namespace) -> dict[str, Any]:
    """Return the endpoint's parameters that were given, by Stripe's names."""
    names = (*TEXT_PARAMETERS, "status", "limit", "expand")
    given = {name: value for name in names if (value := getattr(args, name))}
    comparisons = {name: value for name in COMPARISONS if (value := getattr(args, f"created_{name}")) is not None}
    if comparisons and args.created is not None:
        raise ValueError("--created is one exact second, it does not go with --created-gt, -gte, -lt and -lte")
    created = args.created if args.created is not None else comparisons
    return given if created == {} else given | {"created": created}


def _snippet(args: Namespace, hook: StripeIdentityHook, parameters: dict[str, Any]) -> str:
    from airflow_provider_stripe_identity import snippets
    from airflow_provider_stripe_identity.stripe_api.pages import VERIFICATION_SESSIONS

    if args.snippet == "curl":
        return snippets.curl(hook.client, VERIFICATION_SESSIONS, parameters)
    return {"hook": snippets.hook, "dag": snippets.dag}[args.snippet](args.conn_id, parameters)


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

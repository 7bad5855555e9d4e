"""The same request as something to paste: for a shell, Python, a DAG file or TypeScript. Never with the key."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity._stripe_api.client import DEFAULT_BASE_URL
from airflow_provider_stripe_identity._stripe_api.pages import VERIFICATION_SESSIONS
from airflow_provider_stripe_identity._stripe_api.parameters import (
    Created,
    created_query,
    page_query,
    verification_sessions_query,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient

#: What belongs to reading a page; the operator reads all of them.
_PAGING = ("limit", "starting_after", "ending_before")
KINDS = ("curl", "hook", "dag", "python", "typescript")
#: Stripe sends it unasked, so it cannot be expanded; the gateway takes its name in ``expand`` as asking for it.
PROVIDED_DETAILS = "data.provided_details"


class Api(NamedTuple):
    """
    Where a client of Stripe sends its requests.

    :param base_url: where ``/v1`` begins
    :param key_variable: the environment variable that holds the key, None where none is needed
    :param headers: Stripe's own headers that the client has to send
    """

    base_url: str
    key_variable: str | None
    headers: Mapping[str, str]

    @classmethod
    def of(cls, client: StripeIdentityClient) -> Self:
        """Return what the client itself talks to."""
        headers = {name: value for name, value in client.headers.items() if name.startswith("Stripe-")}
        return cls(client.base_url, "STRIPE_API_KEY" if client.has_key else None, headers)

    @classmethod
    def of_gateway(cls, base_url: str) -> Self:
        """Return Airflow's gateway to one connection, which adds everything but a token of Airflow's."""
        return cls(base_url, "AIRFLOW_TOKEN", {})


def snippet(kind: str, api: Api, conn_id: str, parameters: Mapping[str, Any]) -> str:
    """Return the request in one of :data:`KINDS`."""
    if kind in ("hook", "dag"):
        return {"hook": hook, "dag": dag}[kind](conn_id, parameters)
    return {"curl": curl, "python": python, "typescript": typescript}[kind](api, parameters)


def curl(api: Api, parameters: Mapping[str, Any]) -> str:
    """Return a shell command."""
    paging = {name: value for name, value in parameters.items() if name in _PAGING}
    filters = {name: value for name, value in parameters.items() if name not in _PAGING}
    lines = [f"curl --get {shlex.quote(api.base_url + VERIFICATION_SESSIONS)}"]
    if api.key_variable:
        lines.append(f'--header "Authorization: Bearer ${api.key_variable}"')
    lines += [f"--header {shlex.quote(f'{name}: {value}')}" for name, value in api.headers.items()]
    lines += [
        f"--data-urlencode {shlex.quote(f'{name}={value}')}"
        for name, value in [*verification_sessions_query(**filters), *page_query(**paging)]
    ]
    return " \\\n  ".join(lines)


def python(api: Api, parameters: Mapping[str, Any]) -> str:
    """Return a Python script that uses Stripe's official package."""
    key = f'os.environ["{api.key_variable}"]' if api.key_variable else '"the gateway adds the key"'
    options: dict[str, Any] = {"base_addresses": {"api": api.base_url}} if api.base_url != DEFAULT_BASE_URL else {}
    options |= {_option(name): value for name, value in api.headers.items()}
    settings = "".join(f"\n    {name}={value!r}," for name, value in options.items())
    return f"""\
{"import os" + chr(10) * 2 if api.key_variable else ""}import stripe

client = stripe.StripeClient(
    {key},{settings}
)
page = client.v1.identity.verification_sessions.list({_literal(_sdk_parameters(parameters), repr)})
for session in page.data:
    print(session.id, session.status)"""


def typescript(api: Api, parameters: Mapping[str, Any]) -> str:
    """Return a module that uses Stripe's official package, in TypeScript that is JavaScript as well."""
    key = f'process.env.{api.key_variable} ?? ""' if api.key_variable else '"the gateway adds the key"'
    gateway, options = "", "{}"
    if api.base_url != DEFAULT_BASE_URL:
        gateway = f"""
// The package has no option for a base URL with a path.
const api = {_json(api.base_url)};
const httpClient = Stripe.createFetchHttpClient((url, init) => {{
  const {{ pathname, search }} = new URL(String(url));
  return fetch(api + pathname + search, init);
}});
"""
        options = "{ httpClient }"
    headers = {_camel_case(_option(name)): value for name, value in api.headers.items()}
    arguments = _literal(_sdk_parameters(parameters), _json, indent="  ") or "{}"
    if headers:
        headers = {"apiVersion" if name == "stripeVersion" else name: value for name, value in headers.items()}
        arguments += f", {_literal(headers, _json, indent='  ')}"
    return f"""\
import Stripe from "stripe";
{gateway}
const stripe = new Stripe({key}, {options});
const page = await stripe.identity.verificationSessions.list({arguments});
for (const session of page.data) {{
  console.log(session.id, session.status);
}}"""


def hook(conn_id: str, parameters: Mapping[str, Any]) -> str:
    """Return a Python script. Outside of tasks Airflow knows the connections of variables and secrets backends only."""
    return f"""\
from airflow_provider_stripe_identity.hooks import StripeIdentityHook

# In a task; elsewhere the connection has to be an AIRFLOW_CONN_... variable or in a secrets backend.
hook = StripeIdentityHook({conn_id!r})
page = hook.list_verification_sessions_page({_arguments(_of_stripe(parameters), indent="    ")})
for session in page["data"]:
    print(session["id"], session["status"])"""


def dag(conn_id: str, parameters: Mapping[str, Any]) -> str:
    """Return a DAG file that exports what the request lists, all pages of it; without ``created``, of the last day."""
    parameters = {name: _untemplated(value) for name, value in parameters.items()}
    window = _window(parameters.get("created"))
    arguments = {
        "task_id": "export",
        "stripe_conn_id": conn_id,
        "destination": "file:///tmp/verification_sessions/{{ run_id }}.jsonl",
        **window,
        **{name: value for name, value in _of_stripe(parameters).items() if name not in (*_PAGING, "created")},
    }
    if PROVIDED_DETAILS in parameters.get("expand", ()):
        arguments["fields"] = [*DEFAULT_FIELDS, "provided_details"]
    imports = "import datetime\n\n" if "window" in window else ""
    return f"""\
{imports}from airflow.sdk import DAG

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

with DAG("verification_sessions", schedule=None):
    StripeIdentityToObjectStorageOperator({_arguments(arguments, indent="        ")})"""


def _untemplated(value: Any) -> Any:
    """Return what the operator's templated arguments render as exactly this text."""
    if isinstance(value, str):
        # Jinja drops a newline at the end, and makes a newline of every carriage return.
        return re.sub(r"\{[{%#]|\r|\n\Z", lambda found: f"{{{{ {found[0]!r} }}}}", value)
    return value


def _arguments(arguments: Mapping[str, Any], *, indent: str) -> str:
    lines = [f"\n{indent}{name}={value!r}," for name, value in arguments.items()]
    return "".join(lines) + ("\n" + indent[:-4] if lines else "")


def _of_stripe(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the request to Stripe itself has."""
    of_stripe = dict(parameters)
    if "expand" in of_stripe:
        of_stripe["expand"] = [path for path in of_stripe["expand"] if path != PROVIDED_DETAILS]
        if not of_stripe["expand"]:
            del of_stripe["expand"]
    return of_stripe


def _sdk_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return them as Stripe's packages take them: times are epoch seconds."""
    converted = dict(parameters)
    if "created" in converted:
        bounds = {name: int(value) for name, value in created_query(converted["created"])}
        exact = bounds.get("created")
        converted["created"] = exact if exact is not None else {name[8:-1]: value for name, value in bounds.items()}
    return converted


def _literal(mapping: Mapping[str, Any], value_of: Callable[[Any], str], *, indent: str = "    ") -> str:
    """Return a mapping with an entry a line, nothing for an empty one."""
    quoted = value_of is repr
    lines = [f"\n{indent}{repr(name) if quoted else name}: {value_of(value)}," for name, value in mapping.items()]
    return f"{{{''.join(lines)}\n}}" if lines else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)


def _option(header: str) -> str:
    return header.lower().replace("-", "_")


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)


def _window(created: Created | None) -> dict[str, Any]:
    """Return the half-open bounds of ``created`` in whole seconds; an open end is the time the run was due."""
    bounds = {name: int(value) for name, value in created_query(created)}
    if not bounds:
        return {"window": timedelta(days=1)}
    if "created" in bounds:
        return {"created_gte": bounds["created"], "created_lt": bounds["created"] + 1}
    starts = [bounds[name] + (name == "created[gt]") for name in ("created[gt]", "created[gte]") if name in bounds]
    ends = [bounds[name] + (name == "created[lte]") for name in ("created[lt]", "created[lte]") if name in bounds]
    return {
        "created_gte": max(starts, default=0),
        "created_lt": min(ends) if ends else "{{ dag_run.run_after }}",
    }

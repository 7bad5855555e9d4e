"""The same request as something to paste: for a shell, for Python, for a DAG file. Never with the key."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity.stripe_api.parameters import (
    Created,
    created_query,
    page_query,
    verification_sessions_query,
)

if TYPE_CHECKING:
    from airflow_provider_stripe_identity.stripe_api.client import StripeIdentityClient

#: What belongs to reading a page; the operator reads all of them.
_PAGING = ("limit", "starting_after", "ending_before")


def curl(client: StripeIdentityClient, path: str, parameters: Mapping[str, Any]) -> str:
    """Return a shell command; it takes the key, if the connection has one, from ``STRIPE_API_KEY``."""
    paging = {name: value for name, value in parameters.items() if name in _PAGING}
    filters = {name: value for name, value in parameters.items() if name not in _PAGING}
    lines = [f"curl --get {shlex.quote(client.base_url + path)}"]
    if client.has_key:
        lines.append('--user "$STRIPE_API_KEY:"')
    lines += [
        f"--header {shlex.quote(f'{name}: {value}')}"
        for name, value in client.headers.items()
        if name.startswith("Stripe-")
    ]
    lines += [
        f"--data-urlencode {shlex.quote(f'{name}={value}')}"
        for name, value in [*verification_sessions_query(**filters), *page_query(**paging)]
    ]
    return " \\\n  ".join(lines)


def hook(conn_id: str, parameters: Mapping[str, Any]) -> str:
    """Return a Python script. Outside of tasks Airflow knows the connections of variables and secrets backends only."""
    return f"""\
from airflow_provider_stripe_identity.hooks import StripeIdentityHook

# In a task; elsewhere the connection has to be an AIRFLOW_CONN_... variable or in a secrets backend.
hook = StripeIdentityHook({conn_id!r})
page = hook.list_verification_sessions_page({_arguments(parameters, indent="    ")})
for session in page["data"]:
    print(session["id"], session["status"])"""


def dag(conn_id: str, parameters: Mapping[str, Any]) -> str:
    """Return a DAG file that exports what the request lists, all pages of it; without ``created``, of the last day."""
    window = _window(parameters.get("created"))
    arguments = {
        "task_id": "export",
        "stripe_conn_id": conn_id,
        "destination": "file:///tmp/verification_sessions/{{ run_id }}.jsonl",
        **window,
        **{name: value for name, value in parameters.items() if name not in (*_PAGING, "created")},
    }
    imports = "import datetime\n\n" if "window" in window else ""
    return f"""\
{imports}from airflow.sdk import DAG

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

with DAG("verification_sessions", schedule=None):
    StripeIdentityToObjectStorageOperator({_arguments(arguments, indent="        ")})"""


def _arguments(arguments: Mapping[str, Any], *, indent: str) -> str:
    lines = [f"\n{indent}{name}={value!r}," for name, value in arguments.items()]
    return "".join(lines) + ("\n" + indent[:-4] if lines else "")


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

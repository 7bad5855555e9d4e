"""Query strings in Stripe's form, read and checked: nothing that Stripe does not document gets through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from airflow_provider_stripe_identity._stripe_api.parameters import (
    EVENT_TYPES,
    Query,
    created_query,
    page_query,
    verification_sessions_query,
)

_LIST = re.compile(r"(expand|types)\[\d*\]")
_CREATED = re.compile(r"created\[(gte?|lte?)\]")

LIST_PARAMETERS = (
    "client_reference_id",
    "created",
    "ending_before",
    "expand",
    "limit",
    "related_customer",
    "related_customer_account",
    "starting_after",
    "status",
)
EVENTS_PARAMETERS = ("created", "ending_before", "limit", "starting_after", "type", "types")


def read_query(query: Query, allowed: Sequence[str]) -> dict[str, Any]:
    """
    Return the parameters of a query string by Stripe's names, in the types that the hook takes.

    :param query: names and values, decoded
    :param allowed: the endpoint's parameters
    :raises ValueError: for a parameter that is unknown, or given twice
    """
    parameters: dict[str, Any] = {}
    for name, value in query:
        if (found := _LIST.fullmatch(name)) and found[1] in allowed:
            parameters.setdefault(found[1], []).append(value)
            continue
        if (found := _CREATED.fullmatch(name)) and "created" in allowed:
            bounds = parameters.setdefault("created", {})
            if not isinstance(bounds, dict) or found[1] in bounds:
                raise ValueError("created is one exact second, or each of gt, gte, lt and lte at most once")
            bounds[found[1]] = _number(value)
            continue
        if name not in allowed or name in ("expand", "types"):
            raise ValueError(f"Received unknown parameter: {name[:100]}")
        if name in parameters:
            raise ValueError(f"{name} is given twice")
        parameters[name] = _number(value) if name in ("created", "limit") else value
    return parameters


def list_query(parameters: dict[str, Any]) -> Query:
    """
    Return what a list of sessions is asked for with.

    :raises ValueError: naming the parameter
    """
    filters = {name: value for name, value in parameters.items() if name not in _PAGING}
    return [*verification_sessions_query(**filters), *_page(parameters)]


def events_query(parameters: dict[str, Any]) -> Query:
    """
    Return what a list of events is asked for with: of Identity's types, whatever the caller asks for.

    :raises ValueError: naming the parameter
    """
    if "type" in parameters and "types" in parameters:
        raise ValueError("type and types exclude each other; give one")
    types = [parameters["type"]] if "type" in parameters else parameters.get("types", EVENT_TYPES)
    if types == ["identity.verification_session.*"]:
        types = EVENT_TYPES
    if other := [event_type for event_type in types if event_type not in EVENT_TYPES]:
        raise ValueError(f"types must be of Identity, such as {EVENT_TYPES[2]}, not {other[0][:100]!r}")
    return [
        *(("types[]", event_type) for event_type in types),
        *created_query(parameters.get("created")),
        *_page(parameters),
    ]


_PAGING = ("limit", "starting_after", "ending_before")


def _page(parameters: dict[str, Any]) -> Query:
    return page_query(**{name: value for name, value in parameters.items() if name in _PAGING})


def _number(text: str) -> int | str:
    """Leave what is no number as it is: who checks the parameter says so."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text

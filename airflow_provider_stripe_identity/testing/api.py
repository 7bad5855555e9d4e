"""Stripe's HTTP interface as a function: a request in, a response out."""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import unquote

from .objects import API_VERSION, STATUSES, Json
from .store import NEWEST, OLDEST, Key, Store, StripeError, missing

OWN_ACCOUNT = "acct_1EmbeddedServer"

SESSIONS = "/v1/identity/verification_sessions"
EVENTS = "/v1/events"

# What a restricted key can be allowed, and how Stripe calls it in its refusal
PERMISSIONS = {
    "verification_sessions": "rak_identity_product_read",
    "events": "rak_event_read",
    "account": "rak_accounts_kyc_basic_read",
}

_PAGING = ("created", "ending_before", "expand", "limit", "starting_after")
_SESSION_FILTERS = ("client_reference_id", "related_customer", "related_customer_account", "status")
_CREATE = (
    "client_reference_id",
    "expand",
    "metadata",
    "options",
    "provided_details",
    "related_customer",
    "related_customer_account",
    "related_person",
    "return_url",
    "type",
    "verification_flow",
)
_OBJECTS = ("metadata", "options", "provided_details", "related_person")
# The deeper paths ask for the sensitive part of what the shorter ones show.
_EXPANDABLE = re.compile(
    r"(verified_outputs)(\.dob|\.id_number)?|(last_verification_report)"
    r"(\.document(\.dob|\.number|\.expiration_date|\.issued_date)?|\.id_number(\.dob|\.id_number)?)?"
)


@dataclass(frozen=True)
class Request:
    """
    What arrived.

    :param method: GET or POST
    :param path: the path, without the query
    :param query: names and values of the query
    :param headers: the headers, found in any case
    :param form: names and values of the body
    """

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Message
    form: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Response:
    """
    What to answer.

    :param status: the HTTP status
    :param body: text as it is, everything else as JSON
    :param headers: further headers; None takes one away
    """

    status: int
    body: Any
    headers: Mapping[str, str | None] = field(default_factory=dict)

    def content(self) -> tuple[str, bytes]:
        """Return the content type and the bytes of the body."""
        if isinstance(self.body, str):
            return "text/html; charset=utf-8", self.body.encode()
        return "application/json", json.dumps(self.body, indent=2, ensure_ascii=False).encode()


class Api:
    """
    The endpoints, in front of the stores of all accounts.

    :param api_key: a key that is allowed everything
    :param gateway: whether requests need no key
    :param path_prefix: what all paths start with
    :param livemode: whether all objects are live ones
    :param clock: tells the time in epoch seconds
    """

    def __init__(
        self,
        *,
        api_key: str,
        gateway: bool,
        path_prefix: str,
        livemode: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.api_keys: dict[str, set[str]] = {api_key: set(PERMISSIONS)}
        self.gateway, self.path_prefix, self.livemode = gateway, path_prefix, livemode
        self._clock = clock
        self.stores: dict[str, Store] = {}
        self.store(OWN_ACCOUNT)

    def store(self, account: str | None) -> Store:
        """
        Return the store of an account, which is known from now on.

        :param account: its id, None for the account of the API key
        """
        account = account or OWN_ACCOUNT
        if account not in self.stores:
            self.stores.setdefault(account, Store(account, livemode=self.livemode, clock=self._clock))
        return self.stores[account]

    def endpoint(self, request: Request) -> str | None:
        """
        Name the endpoint of a request, if there is one.

        :param request: the request
        """
        route = self._route(request)
        return f"{request.method} {route[0].pattern}" if route else None

    def answer(self, request: Request) -> Response:
        """
        Answer a request.

        :param request: the request
        """
        version = request.headers.get("Stripe-Version") or API_VERSION
        try:
            route = self._route(request)
            if route is None:
                raise _unrecognized(request)
            _, permission, function, object_id = route
            store = self._authorize(request, permission)
            params = decode(request.form if request.method == "POST" else request.query)
            return Response(200, function(store, params, *object_id), {"Stripe-Version": version})
        except StripeError as error:
            return Response(error.status, error.body, {"Stripe-Version": version, **error.headers})

    def _route(self, request: Request) -> tuple[re.Pattern[str], str, Callable[..., Json], tuple[str, ...]] | None:
        path = unquote(request.path)
        if not path.startswith(self.path_prefix):
            return None
        for method, pattern, permission, function in _ROUTES:
            found = pattern.fullmatch(path, len(self.path_prefix))
            if found and method == request.method:
                return pattern, permission, function, found.groups()
        return None

    def _authorize(self, request: Request, permission: str) -> Store:
        """Return the store that a request may use."""
        headers = request.headers
        account = headers.get("Stripe-Account") or headers.get("Stripe-Context", "").rpartition("/")[2]
        key = _key(headers.get("Authorization"))
        if not self.gateway:
            if not key:
                raise StripeError(
                    401,
                    "You did not provide an API key. You need to provide your API key in the Authorization header, "
                    "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
                    "https://stripe.com/docs/api#authentication for details, or we can help at "
                    "https://support.stripe.com/.",
                    headers={"WWW-Authenticate": 'Basic realm="Stripe"'},
                )
            if key not in self.api_keys:
                raise StripeError(401, f"Invalid API Key provided: {_masked(key)}")
            for name in ("Stripe-Context", "Stripe-Version") if key.startswith("sk_org_") else ():
                if not headers.get(name):
                    raise StripeError(400, f"Organization API keys need the {name} header.")
        if account and account not in self.stores:
            raise StripeError(
                403,
                f"The provided key '{_masked(key)}' does not have access to account '{account}' (or that account does "
                "not exist). Application access may have been revoked.",
                code="account_invalid",
            )
        if not self.gateway and permission not in self.api_keys[key]:
            raise StripeError(
                403,
                f"The provided key '{_masked(key)}' does not have the required permissions for this endpoint on "
                f"account '{account or OWN_ACCOUNT}'. Having the '{PERMISSIONS[permission]}' permission would allow "
                "this request to continue.",
                code="more_permissions_required",
            )
        return self.store(account)


# Endpoints


def _list_sessions(store: Store, params: Json) -> Json:
    _known(params, *_PAGING, *_SESSION_FILTERS)
    wanted = session_filters(params)
    expand = _expand(params, "data.")
    return _list(store, "session", SESSIONS, params, wanted, lambda session: _expanded(store, session, expand))


def _list_events(store: Store, params: Json) -> Json:
    _known(params, *_PAGING, "delivery_success", "type", "types")
    types = _items(params, "types")
    if len(types) > 20:
        raise StripeError(400, "You may only specify up to 20 event types.", param="types")
    if "type" in params:
        if types:
            raise StripeError(400, "You may only specify one of these parameters: type, types.")
        types = [_text(params, "type")]
    _expand(params, "data.", allowed=False)
    return _list(store, "event", EVENTS, params, {"type": types} if types else {}, lambda item: item)


def _list(store: Store, kind: str, url: str, params: Json, wanted: Json, render: Callable[[Json], Json]) -> Json:
    low, high = created_bounds(params)
    if "starting_after" in params and "ending_before" in params:
        raise StripeError(400, "You cannot specify both `starting_after` and `ending_before`.")
    if "starting_after" in params:
        high = min(high, _place(store, kind, params, "starting_after"))
    if "ending_before" in params:
        low = max(low, (*_place(store, kind, params, "ending_before"), 0))  # right behind the cursor
    newest_first = "ending_before" not in params
    limit = min(max(_integer(params["limit"], "limit"), 1), 100) if "limit" in params else 10
    found = store.page(kind, wanted, low, high, limit=limit + 1, newest_first=newest_first)
    data = found[:limit] if newest_first else found[:limit][::-1]
    return {"object": "list", "data": [render(item) for item in data], "has_more": len(found) > limit, "url": url}


def _retrieve_session(store: Store, params: Json, session_id: str) -> Json:
    _known(params, "expand")
    return _expanded(store, store.session(session_id), _expand(params))


def _retrieve_report(store: Store, params: Json, report_id: str) -> Json:
    _known(params, "expand")
    return store.report(report_id)


def _retrieve_event(store: Store, params: Json, event_id: str) -> Json:
    _known(params, "expand")
    _expand(params, allowed=False)
    found = store.find("event", event_id)
    if found is None:
        raise missing("event", event_id)
    return found[1]


def _retrieve_account(store: Store, params: Json) -> Json:
    _known(params, "expand")
    return {
        "id": store.account,
        "object": "account",
        "business_type": "company",
        "charges_enabled": True,
        "country": "US",
        "created": store.created,
        "default_currency": "usd",
        "details_submitted": True,
        "email": "owner@example.com",
        "metadata": {},
        "payouts_enabled": True,
        "type": "standard",
    }


def _create_session(store: Store, params: Json) -> Json:
    _known(params, *_CREATE)
    expand = _expand(params)
    fields = {name: value for name, value in params.items() if name not in ("expand", "return_url")}
    for name, value in fields.items():
        if isinstance(value, dict) != (name in _OBJECTS):
            raise StripeError(400, f"Invalid {'object' if name in _OBJECTS else 'string'}: {value}", param=name)
    if "verification_flow" in fields:
        fields["type"] = "verification_flow"
    elif "type" not in fields:
        raise StripeError(400, "Missing required param: type.", code="parameter_missing", param="type")
    elif fields["type"] not in ("document", "id_number"):
        raise StripeError(400, "Invalid type: must be one of document or id_number", param="type")
    if "options" in fields:
        fields["options"] = _options(fields["options"])
    return _expanded(store, store.create(**fields), expand)


def _cancel_session(store: Store, params: Json, session_id: str) -> Json:
    _known(params, "expand")
    expand = _expand(params)
    return _expanded(store, store.transition(session_id, "canceled"), expand)


def _redact_session(store: Store, params: Json, session_id: str) -> Json:
    _known(params, "expand")
    expand = _expand(params)
    return _expanded(store, store.redact(session_id, status="processing"), expand)


_ROUTES: list[tuple[str, re.Pattern[str], str, Callable[..., Json]]] = [
    (method, re.compile(pattern), permission, function)
    for method, pattern, permission, function in (
        ("GET", SESSIONS, "verification_sessions", _list_sessions),
        ("POST", SESSIONS, "verification_sessions", _create_session),
        ("GET", SESSIONS + "/([^/]+)", "verification_sessions", _retrieve_session),
        ("POST", SESSIONS + "/([^/]+)/cancel", "verification_sessions", _cancel_session),
        ("POST", SESSIONS + "/([^/]+)/redact", "verification_sessions", _redact_session),
        ("GET", "/v1/identity/verification_reports/([^/]+)", "verification_sessions", _retrieve_report),
        ("GET", EVENTS, "events", _list_events),
        ("GET", EVENTS + "/([^/]+)", "events", _retrieve_event),
        ("GET", "/v1/account", "account", _retrieve_account),
    )
]


# Parameters


def decode(pairs: Iterable[tuple[str, str]]) -> Json:
    """
    Return `a[b]=1&c[]=2&c[]=3` as nested mappings; a list is a mapping of its places.

    :param pairs: names and values
    """
    params: Json = {}
    for name, value in pairs:
        *path, last = name.replace("]", "").split("[")
        place = params
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise StripeError(400, f"Invalid object: {name}", param=path[0])
        place[last or str(len(place))] = value
    return params


def session_filters(params: Mapping[str, Any]) -> dict[str, list[str]]:
    """
    Return the accepted values of each filtered field of a session.

    :param params: the endpoint's parameters
    """
    wanted = {name: [_text(params, name)] for name in _SESSION_FILTERS if name in params}
    if "status" in wanted and wanted["status"][0] not in STATUSES:
        allowed = f"{', '.join(STATUSES[:-1])}, or {STATUSES[-1]}"
        raise StripeError(400, f"Invalid status: must be one of {allowed}", param="status")
    return wanted


def created_bounds(params: Mapping[str, Any]) -> tuple[Key, Key]:
    """
    Return the places that `created` selects: the oldest, inclusive, and the newest, exclusive.

    :param params: the endpoint's parameters
    """
    low, high = OLDEST, NEWEST
    created = params.get("created", {})
    if not isinstance(created, Mapping):
        exactly = _integer(created, "created")
        return (exactly,), (exactly + 1,)
    for name, value in created.items():
        if name not in ("gt", "gte", "lt", "lte"):
            raise _unknown(f"created[{name}]")
        second = _integer(value, f"created[{name}]")
        if name in ("gt", "gte"):
            low = max(low, (second + (name == "gt"),))
        else:
            high = min(high, (second + (name == "lte"),))
    return low, high


def _known(params: Json, *names: str) -> None:
    for name in params:
        if name not in names:
            raise _unknown(name)
        if params[name] == "":
            raise StripeError(
                400,
                f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a "
                f"parameter; however '{name}' cannot be unset. You should remove '{name}' from your request or "
                "supply a non-empty value.",
                code="parameter_invalid_empty",
                param=name,
            )


def _unknown(name: str) -> StripeError:
    return StripeError(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)


def _text(params: Mapping[str, Any], name: str) -> str:
    if not isinstance(params[name], str):
        raise StripeError(400, f"Invalid string: {params[name]}", param=name)
    return str(params[name])


def _integer(value: Any, name: str) -> int:
    if not re.fullmatch(r"-?[0-9]+", str(value)):
        raise StripeError(400, f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
    return int(value)


def _items(params: Json, name: str) -> list[str]:
    items = params.get(name, {})
    if not isinstance(items, dict):
        raise StripeError(400, f"Invalid array: {items}", param=name)
    return list(items.values())


def _place(store: Store, kind: str, params: Json, name: str) -> Key:
    found = store.find(kind, cursor := _text(params, name))
    if found is None:
        raise missing("verification_session" if kind == "session" else kind, cursor, status=400, param=name)
    return found[0]


def _expand(params: Json, prefix: str = "", *, allowed: bool = True) -> set[str]:
    """Return the fields to expand."""
    fields = set()
    for path in _items(params, "expand"):
        if path.count(".") > 3:
            message = f"You cannot expand more than 4 levels of a property. Property: {path}"
            raise StripeError(400, message, param="expand")
        found = _EXPANDABLE.fullmatch(path.removeprefix(prefix))
        if not (allowed and found and path.startswith(prefix)):
            raise StripeError(400, f"This property cannot be expanded ({path}).", param="expand")
        fields.add(found[1] or found[3])
    return fields


def _expanded(store: Store, session: Json, fields: set[str]) -> Json:
    more: Json = {}
    if "verified_outputs" in fields:
        more["verified_outputs"] = store.verified_outputs(session)
    if "last_verification_report" in fields and session["last_verification_report"]:
        more["last_verification_report"] = store.report(session["last_verification_report"])
    return session | more


def _options(options: Any) -> Any:
    """Return the options of a session as JSON has them: booleans and lists."""
    if isinstance(options, dict):
        return {
            name: list(value.values()) if name == "allowed_types" else _options(value)
            for name, value in options.items()
        }
    return {"true": True, "false": False}.get(options, options)


# Keys


def _key(authorization: str | None) -> str:
    """Return the API key: a bearer token, or the user of Basic authentication."""
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return value.strip() if scheme.lower() == "bearer" else ""


def _masked(key: str) -> str:
    return f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}" if len(key) > 12 else "*" * len(key)


def _unrecognized(request: Request) -> StripeError:
    return StripeError(
        404,
        f"Unrecognized request URL ({request.method}: {request.path}). If you are trying to list objects, remove the "
        "trailing slash. If you are trying to retrieve an object, make sure you passed a valid (non-empty) identifier "
        "in your code. Please see https://stripe.com/docs or we can help at https://support.stripe.com/.",
    )

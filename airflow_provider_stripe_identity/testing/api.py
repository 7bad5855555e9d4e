"""Stripe's HTTP interface as a function: a request in, a response out."""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import unquote

from . import verification_page
from .objects import API_VERSION, EVENT_TYPES, REASONS, STATUSES, STRIPES_PAGES, WITHOUT_REPORT, Json
from .store import NEWEST, OLDEST, EmulatorError, Key, Store, missing

OWN_ACCOUNT = "acct_1Emulator"

SESSIONS = "/v1/identity/verification_sessions"
REPORTS = "/v1/identity/verification_reports"
EVENTS = "/v1/events"
ACCOUNTS = "/v1/accounts"

# What a restricted key can be allowed, and how Stripe calls it in its refusal
PERMISSIONS = {
    "verification_sessions": "rak_identity_product_read",
    "events": "rak_event_read",
    "account": "rak_accounts_kyc_basic_read",
    "connected_accounts": "rak_connected_account_read",
}

_PAGING = ("created", "ending_before", "expand", "limit", "starting_after")
_REPORT_FILTERS = ("client_reference_id", "type", "verification_session")
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
_UPDATE = ("expand", "metadata", "options", "provided_details", "type")
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

    :param method: GET, POST or any other
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
    :param path_prefix: prefix of all paths
    :param livemode: whether all objects are live ones
    :param clock: returns the time in epoch seconds
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
        #: Where the pages are on which people are verified
        self.pages = STRIPES_PAGES
        #: The key's own account, and all that were ever connected to it
        self.stores = {OWN_ACCOUNT: self._new_store(OWN_ACCOUNT)}
        self._idempotent: dict[tuple[str, str], tuple[Request, Response]] = {}
        self._posts = threading.Lock()

    def store(self, account: str | None) -> Store:
        """
        Return the store of an account; one that is new is connected to the key's own.

        :param account: its id, None for the account of the API key
        """
        account = account or OWN_ACCOUNT
        if account not in self.stores:
            store = self.stores.setdefault(account, self._new_store(account))
            self.stores[OWN_ACCOUNT].connected.setdefault(account, store)
        return self.stores[account]

    def _new_store(self, account: str) -> Store:
        return Store(account, livemode=self.livemode, clock=self._clock, pages=lambda: self.pages)

    def revoke(self, account: str) -> None:
        """
        Let a connected account withdraw its access.

        :param account: its id
        """
        del self.stores[OWN_ACCOUNT].connected[account]

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
        if request.path.startswith(self.path_prefix + verification_page.PATH) and request.method in ("GET", "POST"):
            return self._verification_page(request)
        try:
            route = self._route(request)
            if route is None:
                raise _unrecognized(request)
            _, permission, function, object_id = route
            store = self._authorize(request, permission)

            def execute() -> Response:
                params = decode(request.form if request.method == "POST" else request.query)
                return Response(200, function(store, params, *object_id), {"Stripe-Version": version})

            return self._once(request, store, execute) if request.method == "POST" else execute()
        except EmulatorError as error:
            return Response(error.status, error.body, {"Stripe-Version": version, **error.headers})

    def _verification_page(self, request: Request) -> Response:
        """Show the page of a session, or do what the person does there; its address is the only credential."""
        secret = unquote(request.path).rpartition("_")[2]
        store = next((store for store in self.stores.values() if store.find("session", f"vs_1{secret}")), None)
        if store is None:
            return Response(404, verification_page.html(None), verification_page.HEADERS)
        session = store.session(f"vs_1{secret}")
        if request.method == "GET" or session["url"] is None:
            return Response(200, verification_page.html(session), verification_page.HEADERS)
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.headers.get('Host')}":
            return Response(403, verification_page.html(None, "Another site sent this."), verification_page.HEADERS)
        form = dict(request.form)
        outcome = form.get("outcome")
        code = "abandoned" if outcome == "abandoned" else form.get("code")
        if outcome == "verified":
            code = None
        elif outcome not in ("failed", "abandoned") or code not in REASONS:
            return Response(400, verification_page.html(session, "Choose what happens."), verification_page.HEADERS)
        if code not in WITHOUT_REPORT:
            store.transition(session["id"], "processing")
        session = store.transition(session["id"], "requires_input" if code else "verified", code=code)
        said = "You can try again." if code else "Thank you, you are verified."
        return Response(200, verification_page.html(session, said), verification_page.HEADERS)

    def _once(self, request: Request, store: Store, execute: Callable[[], Response]) -> Response:
        """Execute a request, or repeat the response to the one that had the same `Idempotency-Key`."""
        key = request.headers.get("Idempotency-Key")
        if not key:
            return execute()
        with self._posts:
            first, response = self._idempotent.get((store.account, key), (request, None))
            if first.path != request.path:
                wrong, same = f"for the same endpoint they were first used for ('{first.path}')", False
            else:
                wrong, same = "with the same parameters they were first used with", first.form == request.form
            if not same:
                message = (
                    f"Keys for idempotent requests can only be used {wrong}. Try using a key other than '{key}' if you "
                    "meant to execute a different request."
                )
                raise EmulatorError(400, message, error_type="idempotency_error")
            if response is None:
                response = execute()  # an error is not kept: nothing has happened
                self._idempotent[store.account, key] = request, response
                return response
            return Response(response.status, response.body, {**response.headers, "Idempotent-Replayed": "true"})

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
                raise EmulatorError(
                    401,
                    "You did not provide an API key. You need to provide your API key in the Authorization header, "
                    "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
                    "https://stripe.com/docs/api#authentication for details, or we can help at "
                    "https://support.stripe.com/.",
                    headers={"WWW-Authenticate": 'Basic realm="Stripe"'},
                )
            if key not in self.api_keys:
                raise EmulatorError(401, f"Invalid API Key provided: {_masked(key)}")
            for name in ("Stripe-Context", "Stripe-Version") if key.startswith("sk_org_") else ():
                if not headers.get(name):
                    raise EmulatorError(400, f"Organization API keys need the {name} header.")
        if account and account != OWN_ACCOUNT and account not in self.stores[OWN_ACCOUNT].connected:
            raise EmulatorError(
                403,
                f"The provided key '{_masked(key)}' does not have access to account '{account}' (or that account does "
                "not exist). Application access may have been revoked.",
                code="account_invalid",
            )
        if not self.gateway and permission not in self.api_keys[key]:
            raise EmulatorError(
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
        raise EmulatorError(400, "You may only specify up to 20 event types.", param="types")
    if "type" in params:
        if types:
            raise EmulatorError(400, "You may only specify one of these parameters: type, types.")
        pattern = _text(params, "type")
        types = [name for name in EVENT_TYPES if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name)]
    _expand(params, "data.", allowed=False)
    return _list(store, "event", EVENTS, params, {} if not types and "type" not in params else {"type": types})


def _list_reports(store: Store, params: Json) -> Json:
    _known(params, *_PAGING, *_REPORT_FILTERS)
    wanted = {name: [_text(params, name)] for name in _REPORT_FILTERS if name in params}
    _expand(params, "data.", allowed=False)
    return _list(store, "report", REPORTS, params, wanted)


def _list_accounts(store: Store, params: Json) -> Json:
    _known(params, *_PAGING)
    low, high = created_bounds(params)
    _one_cursor(params)
    newest_first = sorted(store.connected.values(), key=lambda other: other.created)[::-1]
    ids = [other.account for other in newest_first]
    for name in ("starting_after", "ending_before"):
        if name in params and _text(params, name) not in ids:
            raise missing("account", params[name], status=400, param=name)
    first = ids.index(params["starting_after"]) + 1 if "starting_after" in params else 0
    last = ids.index(params["ending_before"]) if "ending_before" in params else len(ids)
    found = [_account(other) for other in newest_first[first:last] if low <= (other.created,) < high]
    limit = _limit(params)
    data = found[-limit:] if "ending_before" in params else found[:limit]
    return {"object": "list", "data": data, "has_more": len(found) > limit, "url": ACCOUNTS}


def _list(
    store: Store, kind: str, url: str, params: Json, wanted: Json, render: Callable[[Json], Json] = lambda item: item
) -> Json:
    low, high = created_bounds(params)
    _one_cursor(params)
    if "starting_after" in params:
        high = min(high, _place(store, kind, params, "starting_after"))
    if "ending_before" in params:
        low = max(low, (*_place(store, kind, params, "ending_before"), 0))  # right behind the cursor
    newest_first = "ending_before" not in params
    limit = _limit(params)
    found = store.page(kind, wanted, low, high, limit=limit + 1, newest_first=newest_first)
    data = found[:limit] if newest_first else found[:limit][::-1]
    return {"object": "list", "data": [render(item) for item in data], "has_more": len(found) > limit, "url": url}


def _retrieve_session(store: Store, params: Json, session_id: str) -> Json:
    _known(params, "expand")
    return _expanded(store, store.session(session_id), _expand(params))


def _one_cursor(params: Json) -> None:
    if "starting_after" in params and "ending_before" in params:
        raise EmulatorError(400, "You cannot specify both `starting_after` and `ending_before`.")


def _limit(params: Json) -> int:
    return min(max(_integer(params["limit"], "limit"), 1), 100) if "limit" in params else 10


def _retrieve_report(store: Store, params: Json, report_id: str) -> Json:
    _known(params, "expand")
    _expand(params, allowed=False)
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
    return _account(store)


def _account(store: Store) -> Json:
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
    fields = _fields(params)
    if "verification_flow" in fields:
        fields["type"] = "verification_flow"
    elif "type" not in fields:
        raise EmulatorError(400, "Missing required param: type.", code="parameter_missing", param="type")
    return _expanded(store, store.create(**fields), expand)


def _update_session(store: Store, params: Json, session_id: str) -> Json:
    """Change a session; Stripe makes no event of that."""
    if unset := params.get("metadata") == "":
        params = {name: value for name, value in params.items() if name != "metadata"}
    _known(params, *_UPDATE)
    expand = _expand(params)
    fields = _fields(params)
    session = store.session(session_id)
    if fields.keys() - {"metadata"} and session["status"] != "requires_input":
        raise EmulatorError(
            400,
            f"The VerificationSession {session_id} is {session['status']}: only its metadata can be updated.",
        )
    metadata = {} if unset else session["metadata"] | fields.get("metadata", {})
    fields["metadata"] = {name: value for name, value in metadata.items() if value != ""}
    return _expanded(store, store.update(session_id, **fields), expand)


def _fields(params: Json) -> Json:
    """Return the fields that a request sets."""
    fields = {name: value for name, value in params.items() if name not in ("expand", "return_url")}
    for name, value in fields.items():
        if isinstance(value, dict) != (name in _OBJECTS):
            raise EmulatorError(400, f"Invalid {'object' if name in _OBJECTS else 'string'}: {value}", param=name)
    if fields.get("type", "document") not in ("document", "id_number"):
        raise EmulatorError(400, "Invalid type: must be one of document or id_number", param="type")
    if "options" in fields:
        fields["options"] = _options(fields["options"])
    return fields


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
        ("POST", SESSIONS + "/([^/]+)", "verification_sessions", _update_session),
        ("POST", SESSIONS + "/([^/]+)/cancel", "verification_sessions", _cancel_session),
        ("POST", SESSIONS + "/([^/]+)/redact", "verification_sessions", _redact_session),
        ("GET", REPORTS, "verification_sessions", _list_reports),
        ("GET", REPORTS + "/([^/]+)", "verification_sessions", _retrieve_report),
        ("GET", EVENTS, "events", _list_events),
        ("GET", EVENTS + "/([^/]+)", "events", _retrieve_event),
        ("GET", "/v1/account", "account", _retrieve_account),
        ("GET", ACCOUNTS, "connected_accounts", _list_accounts),
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
                raise EmulatorError(400, f"Invalid object: {name}", param=path[0])
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
        raise EmulatorError(400, f"Invalid status: must be one of {allowed}", param="status")
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
            raise EmulatorError(
                400,
                f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a "
                f"parameter; however '{name}' cannot be unset. You should remove '{name}' from your request or "
                "supply a non-empty value.",
                code="parameter_invalid_empty",
                param=name,
            )


def _unknown(name: str) -> EmulatorError:
    return EmulatorError(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)


def _text(params: Mapping[str, Any], name: str) -> str:
    if not isinstance(params[name], str):
        raise EmulatorError(400, f"Invalid string: {params[name]}", param=name)
    return str(params[name])


def _integer(value: Any, name: str) -> int:
    if not re.fullmatch(r"-?[0-9]+", str(value)):
        raise EmulatorError(400, f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
    return int(value)


def _items(params: Json, name: str) -> list[str]:
    items = params.get(name, {})
    if not isinstance(items, dict):
        raise EmulatorError(400, f"Invalid array: {items}", param=name)
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
            raise EmulatorError(400, message, param="expand")
        found = _EXPANDABLE.fullmatch(path.removeprefix(prefix))
        if not (allowed and found and path.startswith(prefix)):
            raise EmulatorError(400, f"This property cannot be expanded ({path}).", param="expand")
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


def _unrecognized(request: Request) -> EmulatorError:
    return EmulatorError(
        404,
        f"Unrecognized request URL ({request.method}: {request.path}). If you are trying to list objects, remove the "
        "trailing slash. If you are trying to retrieve an object, make sure you passed a valid (non-empty) identifier "
        "in your code. Please see https://stripe.com/docs or we can help at https://support.stripe.com/.",
    )

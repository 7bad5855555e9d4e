"""The explorer as an application of Airflow's api-server: the page, and below it the gateway."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_stripe_identity._explorer import airflow_side, gateway
from airflow_provider_stripe_identity._explorer.answers import refusal
from airflow_provider_stripe_identity._explorer.queries import LIST_PARAMETERS, list_query, read_query
from airflow_provider_stripe_identity._explorer.snippets import KINDS, Api, snippet
from airflow_provider_stripe_identity._stripe_api.pages import EVENTS, VERIFICATION_SESSIONS

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

#: Only the page's own files, no inline script, no other host; in a frame only of Airflow itself.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
#: The connection decides whose data is read: refused, because a caller who sends one expects another account.
ACCOUNT_HEADERS = ("Stripe-Account", "Stripe-Context")


def make_app() -> ASGIApp:
    """Return the application."""
    app = FastAPI(title="Stripe Identity explorer", openapi_url=None)
    stripe = gateway.Gateway()

    async def answer(
        request: Request, user: BaseUser, connection_id: str, path: str, read: Callable[[], gateway.Call]
    ) -> JSONResponse:
        def checked() -> gateway.Call:
            if sent := [name for name in ACCOUNT_HEADERS if name in request.headers]:
                raise ValueError(f"{sent[0]} is the connection's, and cannot be sent")
            return read()

        return _json(await stripe.answer(user, connection_id, path, checked))

    @app.get("/connections/{connection_id}" + VERIFICATION_SESSIONS)
    async def list_sessions(request: Request, connection_id: str, user: GetUserDep) -> JSONResponse:
        read = partial(gateway.list_sessions, request.query_params.multi_items())
        return await answer(request, user, connection_id, VERIFICATION_SESSIONS, read)

    @app.get("/connections/{connection_id}" + VERIFICATION_SESSIONS + "/{session_id}")
    async def get_session(request: Request, connection_id: str, session_id: str, user: GetUserDep) -> JSONResponse:
        read = partial(gateway.get_session, session_id, request.query_params.multi_items())
        return await answer(request, user, connection_id, f"{VERIFICATION_SESSIONS}/{session_id[:100]}", read)

    @app.get("/connections/{connection_id}" + EVENTS)
    async def list_events(request: Request, connection_id: str, user: GetUserDep) -> JSONResponse:
        read = partial(gateway.list_events, request.query_params.multi_items())
        return await answer(request, user, connection_id, EVENTS, read)

    @app.get("/connections")
    def connections(user: GetUserDep) -> dict[str, Any]:
        return {"connections": airflow_side.usable_connections(user)}

    @app.get("/connections/{connection_id}/snippets")
    async def snippets(request: Request, connection_id: str, base_url: str, user: GetUserDep) -> JSONResponse:
        """Return the request as something to paste; ``base_url`` is the explorer's, as the browser knows it."""
        if not await stripe.may_use(user, connection_id, "/snippets"):
            return _json(gateway.FORBIDDEN)
        query = [pair for pair in request.query_params.multi_items() if pair[0] != "base_url"]
        api = Api.of_gateway(f"{base_url.rstrip('/')}/connections/{connection_id}")
        try:
            parameters = read_query(query, LIST_PARAMETERS)
            list_query(parameters)
        except ValueError as error:
            return _json(gateway.Answer(400, refusal(str(error))))
        return JSONResponse({kind: snippet(kind, api, connection_id, parameters) for kind in KINDS})

    app.mount("/", StaticFiles(directory=Path(__file__).parent / "page", html=True))
    return _with_headers(app)


def _json(answer: gateway.Answer) -> JSONResponse:
    return JSONResponse(answer.body, answer.status, answer.headers)


def _with_headers(app: ASGIApp) -> ASGIApp:
    """Let nothing be kept by a cache without asking, and answers not at all."""

    async def with_headers(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                is_json = any(value.startswith(b"application/json") for _, value in message["headers"])
                headers = HEADERS | {"Cache-Control": "no-store" if is_json else "no-cache"}
                more = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await app(scope, receive, send_with_headers)

    return with_headers

"""The emulator's endpoints, with HTTP and without."""

from __future__ import annotations

from collections.abc import Callable
from email.message import Message
from typing import Any

from airflow_provider_stripe_identity.testing import StripeIdentityServer
from airflow_provider_stripe_identity.testing.api import SESSIONS, Api, Request, Response

StartServer = Callable[..., StripeIdentityServer]

#: Populations of the tests end here, within the thirty days of events if a test needs these.
NOON = 1_790_000_000


def new_api(**arguments: Any) -> Api:
    """The endpoints without HTTP."""
    defaults: dict[str, Any] = {
        "api_key": "sk_test_emulator",
        "gateway": False,
        "path_prefix": "",
        "livemode": False,
    }
    return Api(**defaults | arguments)


def ask(api: Api, path: str = SESSIONS, *query: tuple[str, str], method: str = "GET", **headers: str) -> Response:
    """One request, by default with a good key."""
    message = Message()
    for name, value in ({"Authorization": "Bearer sk_test_emulator"} | headers).items():
        message[name.replace("_", "-")] = value
    pairs = list(query)
    return api.answer(Request(method, path, [] if method == "POST" else pairs, message, pairs))


def error(api: Api, path: str = SESSIONS, *query: tuple[str, str], **arguments: str) -> tuple[int, dict[str, Any]]:
    """Status and error object of a request that must fail."""
    response = ask(api, path, *query, **arguments)
    return response.status, response.body["error"]

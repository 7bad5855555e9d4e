"""What of Stripe's responses may leave the gateway: no credential ever, nothing personal that was not asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS, SECRET_FIELDS
from airflow_provider_stripe_identity._export.jsonl import JsonLines
from airflow_provider_stripe_identity._stripe_api.errors import StripeError
from airflow_provider_stripe_identity._stripe_api.pages import EVENTS, VERIFICATION_SESSIONS

_CREDENTIALS = re.compile(
    r"\b(?:sk|rk|pk|ek)_(?:org_)?(?:live|test)_[\w*]+|(?<=_secret_)\w+|(?<=https://verify\.stripe\.com/)\S+"
)
_EVENT_FIELDS = ("id", "object", "api_version", "created", "livemode", "type")


class Answers:
    """
    Shapes answers for one caller.

    :param expand: what the caller asked to expand, from the session on: ``verified_outputs``
    :param api_key: masked wherever it shows, in whatever form a gateway may repeat it
    """

    def __init__(self, expand: Sequence[str] = (), *, api_key: str | None = None) -> None:
        fields = [*DEFAULT_FIELDS]
        if "provided_details" in expand:
            fields.append("provided_details")
        self._lines = JsonLines(fields, expand=expand)
        self._expanded = {path.split(".")[0] for path in expand}
        self._api_key = api_key

    def session(self, session: dict[str, Any]) -> dict[str, Any]:
        """Return a session without what was not asked for."""
        row = self._lines.row(session)
        for name in ("related_customer", "related_customer_account", "verification_flow"):
            if isinstance(row.get(name), dict) and name not in self._expanded:
                row[name] = row[name].get("id")
        cleaned: dict[str, Any] = self.any(row)
        return cleaned

    def sessions(self, page: dict[str, Any]) -> dict[str, Any]:
        """Return a page of sessions."""
        return _list(VERIFICATION_SESSIONS, map(self.session, page["data"]), page)

    def events(self, page: dict[str, Any]) -> dict[str, Any]:
        """Return a page of events; nothing personal can be asked for in their snapshots."""
        return _list(EVENTS, map(self._event, page["data"]), page)

    def _event(self, event: dict[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = self.any({name: event[name] for name in _EVENT_FIELDS if name in event})
        snapshot = event["data"].get("object")
        return fields | {"data": {"object": self.session(snapshot) if isinstance(snapshot, dict) else None}}

    def any(self, value: Any) -> Any:
        """Return any value of JSON without credentials, wherever in it they are."""
        if isinstance(value, dict):
            return {
                self.any(name): self.any(member)
                for name, member in value.items()
                if name.casefold() not in SECRET_FIELDS
            }
        if isinstance(value, list):
            return [self.any(member) for member in value]
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """Return a text without credentials."""
        masked = text.replace(self._api_key, "***") if self._api_key else text
        return _CREDENTIALS.sub("***", masked)


def error_answer(error: StripeError) -> dict[str, Any]:
    """Return Stripe's own error object, as far as it is safe to repeat, and what to do about it."""
    said = {"type": error.type or "api_error", "code": error.code, "param": error.param}
    words = {"message": error.message or error.problem, "hint": error.hint}
    return {"error": {name: value for name, value in (said | words).items() if value}}


def refusal(message: str, *, kind: str = "invalid_request_error", **more: str) -> dict[str, Any]:
    """Return an error of the gateway's own, in Stripe's form: official clients show its message."""
    return {"error": {"type": kind, "message": message, **more}}


def _list(path: str, data: Any, page: dict[str, Any]) -> dict[str, Any]:
    # Stripe's packages read further pages from this address; the one in the response is not trusted.
    return {"object": "list", "data": list(data), "has_more": page["has_more"], "url": path}

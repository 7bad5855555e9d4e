"""What can go wrong between us and Stripe, and what to do about it."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping
from typing import Any

# API keys (Stripe repeats a part of the key in its 401), client secrets, hosted verification links, e-mail addresses.
_SECRETS = re.compile(
    r"\b((?:sk|rk|pk|ek)_(?:org_)?(?:live_|test_)?)[\w*]+"
    r"|(_secret_)\w+"
    r"|(https://verify\.stripe\.com/)\S+"
    r"|()[\w.+-]{1,64}@[\w.-]+"
)
#: What Stripe says of an account on which Identity is not activated.
NO_IDENTITY = "not set up to use Identity"
#: A text from outside is cut after as many characters.
MAX_SAID = 500


def scrub(text: str) -> str:
    """
    Return a text that came from outside as it can be logged.

    API keys, client secrets, verification links and e-mail addresses are masked, it is cut, and whatever could begin
    a line of its own is a blank.
    """
    masked = _SECRETS.sub(lambda found: f"{next(filter(None, found.groups()), '')}***", text[: 2 * MAX_SAID])
    said = masked if len(masked) <= MAX_SAID else f"{masked[:MAX_SAID]}…"
    return "".join(character if character.isprintable() else " " for character in said)


def in_one_line(error: Exception) -> str:
    """Return the text of an error for the middle of a line in a log."""
    return str(error).replace("\n", " ").rstrip(".")


class StripeError(Exception):
    """
    A request that Stripe, or the way to Stripe, did not answer as asked.

    The text says what is wrong in its first line, and what to do next in its second; the last one has the Request-Id.
    It never holds the API key, and the value of a query parameter only where Stripe's words repeat it.

    :param request: the request without its query, e.g. ``GET /v1/events``
    :param problem: what happened
    :param hint: what to do next
    :param status: HTTP status, None when no response arrived
    :param error: Stripe's ``error`` object (https://docs.stripe.com/api/errors), of which
        ``type``, ``code``, ``param`` and ``message`` become attributes
    :param request_id: Stripe's ``Request-Id``, to quote to Stripe's support
    :param rate_limited_reason: Stripe's ``Stripe-Rate-Limited-Reason``
    :param retryable: the same request may succeed when it is sent again
    :param retry_after: seconds to wait before that, as the server asked for
    """

    #: Trying again cannot help before somebody changes the key, the account or the arguments.
    permanent = False

    @property
    def unavailable(self) -> bool:
        """Whether Stripe, or the way to it, is out of service: no response, too many requests, a server's error."""
        away = isinstance(self, StripeAPIConnectionError) or (self.status or 0) >= 500 or self.status == 429
        return away and self.retryable

    @property
    def account_is_unreadable(self) -> bool:
        """Whether the key cannot read this account, while it may well read others."""
        return self.status == 403 or self.code == "account_invalid" or NO_IDENTITY in self.message

    def __init__(
        self,
        request: str,
        problem: str,
        *,
        hint: str = "",
        status: int | None = None,
        error: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        rate_limited_reason: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        error = error or {}
        self.status = status
        self.type, self.code, self.param = (
            scrub(str(error[name])) if error.get(name) else None for name in ("type", "code", "param")
        )
        self.message = scrub(str(error.get("message") or ""))
        self.request_id = scrub(request_id) if request_id else None
        self.rate_limited_reason = scrub(rate_limited_reason) if rate_limited_reason else None
        self.retryable = retryable
        self.retry_after = retry_after
        self.hint = hint
        self.problem = f"{request}: {scrub(problem)}"
        lines = [f"{self.problem}."]
        if hint:
            lines.append(f"{scrub(hint)}.")
        if self.request_id:
            lines.append(f"Request-Id {self.request_id}")
        super().__init__("\n".join(lines))


class StripeAPIConnectionError(StripeError):
    """No complete response arrived: refused, reset, cut short, timed out."""


class AnswerTooLargeError(StripeAPIConnectionError):
    """The response is larger than any that is read."""


class StripeAPIError(StripeError):
    """Stripe failed (5xx, 409), or answered 200 with something else than what was asked for."""


class StripeRateLimitError(StripeError):
    """Too many requests (429)."""


class StripeInvalidRequestError(StripeError):
    """Stripe refuses the request as it stands (400, 404, other 4xx), or redirects it."""

    permanent = True


class StripeAuthenticationError(StripeError):
    """The API key is missing, wrong, expired or not allowed from this address (401)."""

    permanent = True


class StripePermissionError(StripeError):
    """The API key is valid and lacks a permission, or the account does not fit it (403)."""

    permanent = True


class UnreadableAccountsError(StripePermissionError):
    """
    Some of the accounts cannot be read with this key.

    :param errors: by account
    :param of: how many accounts were to be read
    """

    def __init__(self, errors: Mapping[str, StripeError], *, of: int) -> None:
        super().__init__("Reading accounts", "some cannot be read")
        self.accounts = tuple(errors)
        reasons: dict[tuple[int | None, str | None], list[str]] = {}
        for account, error in errors.items():
            reasons.setdefault((error.status, error.code), []).append(account)
        lines = [f"{len(errors)} of {of} accounts cannot be read:"]
        lines += [f"{', '.join(accounts)}: {in_one_line(errors[accounts[0]])}" for accounts in reasons.values()]
        lines.append("Take them out of stripe_accounts, or leave them out with skip_unreadable_accounts=True.")
        self.args = ("\n".join(lines),)


def error_from_response(
    request: str, status: int, headers: Mapping[str, str], body: Mapping[str, Any] | None
) -> StripeError:
    """
    Turn any answer but a 200 into the error to raise.

    :param request: the request without its query
    :param headers: the response's headers, case-insensitive
    :param body: the decoded JSON body, None when it is not a JSON object
    """
    error = body.get("error") if body else None
    if not isinstance(error, Mapping):
        error = {}
    reason = headers.get("Stripe-Rate-Limited-Reason")
    # https://docs.stripe.com/error-low-level: the header overrides what the status says.
    should_retry = headers.get("Stripe-Should-Retry", "").lower()
    retryable = should_retry == "true" or (should_retry != "false" and (status in (409, 429) or status >= 500))
    words = [str(status), *(str(error[key]) for key in ("type", "code", "param") if error.get(key))]
    if reason:
        words.append(reason)
    problem = " ".join(words)
    if error.get("message"):
        problem += f": {str(error['message']).rstrip('.')}"
    return _class_for(status)(
        request,
        problem,
        hint=_hint(status, error),
        status=status,
        error=error,
        request_id=headers.get("Request-Id"),
        rate_limited_reason=reason,
        retryable=retryable,
        retry_after=_seconds(headers.get("Retry-After")),
    )


def _class_for(status: int) -> type[StripeError]:
    if status == 401:
        return StripeAuthenticationError
    if status == 403:
        return StripePermissionError
    if status == 429:
        return StripeRateLimitError
    if status == 409 or status >= 500:
        return StripeAPIError
    return StripeInvalidRequestError


def _hint(status: int, error: Mapping[str, Any]) -> str:
    code, message = error.get("code"), str(error.get("message") or "")
    if 300 <= status < 400:
        return (
            "Redirects are never followed, they could carry the key elsewhere: "
            "set the connection's host to the final address"
        )
    if code == "api_key_expired":
        return "Create a new key in the Stripe Dashboard and put it into the connection's password"
    if status == 401:
        return (
            "Check the API key in the connection's password, whether it is restricted to other IP addresses, "
            "and, behind a gateway, the credentials that the gateway adds"
        )
    if code == "account_invalid":
        return "Check stripe_account and stripe_context: the key must have access to that account"
    if status == 403:
        return (
            "Give the restricted key read access in the Stripe Dashboard: Identity -> Verification Sessions "
            "and Reports (Events too, where events are read)"
        )
    if NO_IDENTITY in message:
        return "Activate Identity for this account in the Stripe Dashboard"
    if status == 404:
        return "Check the id, and that the connection's host ends where Stripe's /v1 begins"
    if status == 429:
        return "The account's request rate is used up, perhaps by others that share it; try again later"
    if status == 409 or status >= 500:
        return "Stripe, or a gateway in front of it, has a problem; https://status.stripe.com may say more"
    if param := error.get("param"):
        return f"Check the argument {param}"
    return "Check the arguments of the request"


def _seconds(retry_after: str | None) -> float | None:
    """``Retry-After`` as seconds from now; it may be a number or an HTTP date (RFC 9110, 10.2.3)."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None

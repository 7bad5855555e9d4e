"""Errors say what happened and what to do, and never hold a secret."""

from __future__ import annotations

import datetime
import email.utils

import pytest
from requests.structures import CaseInsensitiveDict

from airflow_provider_stripe_identity._stripe_api.errors import error_from_response, in_one_line, scrub
from airflow_provider_stripe_identity.exceptions import (
    StripeAPIError,
    StripeAuthenticationError,
    StripeInvalidRequestError,
    StripePermissionError,
    StripeRateLimitError,
)


def error(status, body=None, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_from_response("GET /v1/x", status, CaseInsensitiveDict(named), body)


@pytest.mark.parametrize(
    ("status", "body", "kind", "permanent", "advice"),
    [
        (400, {"error": {"param": "status"}}, StripeInvalidRequestError, True, "Check the argument status"),
        (
            400,
            {"error": {"message": "Your account is not set up to use Identity. Please have an…"}},
            StripeInvalidRequestError,
            True,
            "Activate Identity",
        ),
        (401, None, StripeAuthenticationError, True, "connection's password"),
        (401, {"error": {"code": "api_key_expired"}}, StripeAuthenticationError, True, "Create a new key"),
        (403, {"error": {"code": "more_permissions_required"}}, StripePermissionError, True, "Verification Sessions"),
        (403, {"error": {"code": "account_invalid"}}, StripePermissionError, True, "stripe_account"),
        (404, None, StripeInvalidRequestError, True, "/v1 begins"),
        (302, None, StripeInvalidRequestError, True, "Redirects are never followed"),
        (418, None, StripeInvalidRequestError, True, "Check the arguments"),
        (409, None, StripeAPIError, False, "status.stripe.com"),
        (429, None, StripeRateLimitError, False, "request rate"),
        (500, None, StripeAPIError, False, "status.stripe.com"),
        (503, {"error": "not an object"}, StripeAPIError, False, "status.stripe.com"),
    ],
)
def test_a_status_becomes_its_kind_of_error_with_advice(status, body, kind, permanent, advice):
    raised = error(status, body)
    assert type(raised) is kind
    assert raised.permanent is permanent
    assert raised.retryable is (not permanent)
    assert raised.status == status
    assert advice in str(raised)


def test_everything_that_stripe_says_is_in_the_error():
    raised = error(
        429,
        {"error": {"type": "rate_limit_error", "code": "rate_limit", "param": "p", "message": "Slow down."}},
        Request_Id="req_1",
        Stripe_Rate_Limited_Reason="endpoint-rate",
        Retry_After="7",
    )
    assert (raised.type, raised.code, raised.param, raised.message) == (
        "rate_limit_error",
        "rate_limit",
        "p",
        "Slow down.",
    )
    assert (raised.request_id, raised.rate_limited_reason, raised.retry_after) == ("req_1", "endpoint-rate", 7.0)
    assert str(raised).split("\n") == [
        "GET /v1/x: 429 rate_limit_error rate_limit p endpoint-rate: Slow down.",
        "The account's request rate is used up, perhaps by others that share it; try again later.",
        "Request-Id req_1",
    ]
    assert in_one_line(raised) == (
        "GET /v1/x: 429 rate_limit_error rate_limit p endpoint-rate: Slow down. "
        "The account's request rate is used up, perhaps by others that share it; try again later. Request-Id req_1"
    )
    assert in_one_line(error(429)).endswith("; try again later")


@pytest.mark.parametrize(
    ("status", "should_retry", "retryable"),
    [(400, "true", True), (500, "false", False), (429, "false", False), (409, "FALSE", False), (503, "", True)],
)
def test_stripes_word_on_retrying_overrides_the_status(status, should_retry, retryable):
    assert error(status, Stripe_Should_Retry=should_retry).retryable is retryable


def test_retry_after_may_be_a_date_and_nonsense_is_ignored():
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    assert 90 < error(503, Retry_After=email.utils.format_datetime(soon, usegmt=True)).retry_after <= 100
    assert error(503, Retry_After="Mon, 01 Jan 2001 00:00:00 GMT").retry_after == 0
    for nonsense in ("soon", "nan", "inf", ""):
        assert error(503, Retry_After=nonsense).retry_after is None


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Invalid API Key provided: sk_test_****abcd", "abcd"),
        ("rk_live_51Habcdef is wrong", "51Habcdef"),
        ("key 'sk_org_live_zzz'", "zzz"),
        ("secret vs_1Abc_secret_live_hunter2", "hunter2"),
        ("No such customer: 'jenny.rosen+1@mail.example.com'", "jenny"),
        ("x" * 499 + "jenny.rosen@mail.example.com", "jenny"),
        ("go to https://verify.stripe.com/start/test_YWNjd#x", "YWNjd"),
    ],
)
def test_secrets_are_masked_wherever_stripe_repeats_them(text, secret):
    assert secret not in scrub(text)
    assert secret not in str(error(401, {"error": {"message": text}}))
    assert secret not in error(401, {"error": {"message": text}}).message


def test_an_ordinary_message_stays_as_it_is():
    text = "No such verificationsession: 'vs_1NuN4zLkdIwHu7ixleE6HvkI'; status requires_input"
    assert scrub(text) == text

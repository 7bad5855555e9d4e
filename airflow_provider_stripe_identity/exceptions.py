"""Exceptions that the hook raises, for you to catch in your own tasks."""

from __future__ import annotations

from airflow_provider_stripe_identity._stripe_api.errors import (
    StripeAPIConnectionError,
    StripeAPIError,
    StripeAuthenticationError,
    StripeError,
    StripeInvalidRequestError,
    StripePermissionError,
    StripeRateLimitError,
)

__all__ = [
    "StripeAPIConnectionError",
    "StripeAPIError",
    "StripeAuthenticationError",
    "StripeError",
    "StripeInvalidRequestError",
    "StripePermissionError",
    "StripeRateLimitError",
]

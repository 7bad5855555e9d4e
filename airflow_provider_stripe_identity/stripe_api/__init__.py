"""
Stripe's HTTP API as far as Identity needs it. Nothing here knows Airflow.

This page hands on the errors alone: DAG files import it, and only :mod:`.client` needs ``requests``.
"""

from __future__ import annotations

from airflow_provider_stripe_identity.stripe_api.errors import (
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

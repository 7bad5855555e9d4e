"""Operators that bring Stripe Identity data to object storage, and from there to a warehouse."""

from __future__ import annotations

from airflow_provider_stripe_identity.operators.export import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityEventsToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
)
from airflow_provider_stripe_identity.operators.warehouse import StripeIdentityToWarehouseOperator

__all__ = [
    "StripeIdentityChangesToObjectStorageOperator",
    "StripeIdentityEventsToObjectStorageOperator",
    "StripeIdentityToObjectStorageOperator",
    "StripeIdentityToWarehouseOperator",
]

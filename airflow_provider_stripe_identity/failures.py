"""Which errors end a task at once, without its retries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_stripe_identity.airflow_names import AirflowFailException
from airflow_provider_stripe_identity.stripe_api import StripeError


@contextmanager
def wrong_arguments_fail_the_task() -> Iterator[None]:
    """Turn the ValueError of an argument, a connection's field or a window into AirflowFailException."""
    try:
        yield
    except ValueError as error:
        raise AirflowFailException(str(error)) from error


@contextmanager
def permanent_errors_fail_the_task() -> Iterator[None]:
    """Turn an answer of Stripe's that another try cannot change (key, permissions) into AirflowFailException."""
    try:
        yield
    except StripeError as error:
        if error.permanent:
            raise AirflowFailException(str(error)) from error
        raise

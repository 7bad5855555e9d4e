"""The HTTP client that an Airflow connection describes: every field and extra is read here, and refused by name."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_stripe_identity._airflow import metrics
from airflow_provider_stripe_identity._connection.form import CONN_FIELDS, CONNECTION_TYPE
from airflow_provider_stripe_identity._stripe_api import client, outage, rate_limiter
from airflow_provider_stripe_identity._stripe_api.errors import scrub

if TYPE_CHECKING:
    from airflow.sdk import Connection

log = logging.getLogger(__name__)


def client_from_connection(
    connection: Connection,
    *,
    stripe_account: str | None = None,
    stripe_context: str | None = None,
    max_concurrency: int | None = None,
    at_most: Mapping[str, float] | None = None,
) -> client.StripeIdentityClient:
    """
    Make the HTTP client that an Airflow connection describes.

    :param connection: of type ``stripe_identity``
    :param stripe_account: connected account to act on, instead of the connection's
    :param stripe_context: account an organization key acts on, instead of the connection's
    :param max_concurrency: requests at once, instead of the connection's
    :param at_most: upper limits of numbers in the extra, by name
    :raises ValueError: naming the field of the connection that is wrong; it repeats no text that may be an API key
    """
    # Airflow reads the scheme of such a URI as no scheme, and its first letter as the slash before a schema.
    if not connection.conn_type and (connection.schema or "").startswith("tripe_identity//"):
        raise ValueError("a connection's URI begins with stripe-identity:// (a hyphen), not stripe_identity://")
    # Another service's secret is not for Stripe.
    if (connection.conn_type or CONNECTION_TYPE).replace("-", "_") != CONNECTION_TYPE:
        raise ValueError(
            f"connection {connection.conn_id} is of type {connection.conn_type}, and not of type stripe_identity"
        )
    for name, account in {"stripe_account": stripe_account, "stripe_context": stripe_context}.items():
        if account == "":  # such as a template's: the account of the connection would be read instead
            raise ValueError(f"{name} is empty; leave it out to read the account of the connection")
    if connection.login and not connection.password:
        raise ValueError("login: the API key belongs in the connection's password")
    extra = _extra(connection)

    def number(name: str, default: float) -> Any:
        return min(_number(extra, name, default), (at_most or {}).get(name, float("inf")))

    return client.StripeIdentityClient(
        connection.password or None,
        base_url=_base_url(connection.host or client.DEFAULT_BASE_URL, connection.port),
        api_version=_text(extra, "api_version") or client.DEFAULT_API_VERSION,
        stripe_account=stripe_account or _text(extra, "stripe_account"),
        stripe_context=stripe_context or _text(extra, "stripe_context"),
        timeout=number("timeout", client.DEFAULT_TIMEOUT),
        max_retries=number("max_retries", client.DEFAULT_MAX_RETRIES),
        max_outage=number("max_outage", outage.DEFAULT_MAX_OUTAGE),
        max_requests_per_second=number("max_requests_per_second", rate_limiter.DEFAULT_MAX_REQUESTS_PER_SECOND),
        max_concurrency=(
            number("max_concurrency", rate_limiter.DEFAULT_MAX_CONCURRENCY)
            if max_concurrency is None
            else max_concurrency
        ),
        counted=partial(metrics.count, connection.conn_id),
    )


def _extra(connection: Connection) -> dict[str, Any]:
    """
    Read the connection's extra.

    A name that is nearly one of ours is refused: ``stripe_acount`` would read another account. Any other is left alone,
    with a warning.
    """
    extra = connection.extra_dejson
    # Airflow takes an extra that it cannot read as an empty one.
    if not isinstance(extra, dict) or (connection.extra and not extra and not _is_json(connection.extra)):
        raise ValueError('extra: it must be a JSON object, such as {"timeout": 30}')
    for name in extra.keys() - CONN_FIELDS.keys():
        if nearest := get_close_matches(name, CONN_FIELDS, n=1, cutoff=0.8):
            raise ValueError(f"extra: {scrub(name)} is unknown; did you mean {nearest[0]}?")
    if unknown := extra.keys() - CONN_FIELDS.keys():
        _warn_of_unknown(connection.conn_id, tuple(sorted(unknown)))
    return extra


# Once: a task that reads many accounts, or the explorer with each of its requests, makes many clients.
@cache
def _warn_of_unknown(conn_id: str, names: tuple[str, ...]) -> None:
    log.warning(
        "Connection %s: unknown in its extra, and ignored: %s. Known are %s",
        conn_id,
        ", ".join(map(scrub, names)),
        ", ".join(CONN_FIELDS),
    )


def _is_json(text: str) -> bool:
    with suppress(ValueError):
        json.loads(text)
        return True
    return False


def _base_url(host: str, port: int | None) -> str:
    """Put the connection's port, if it has one, where a URL has it: before the path."""
    base_url = host if "://" in host else f"https://{host}"
    if not port:
        return base_url
    try:
        url = urlsplit(base_url)
        port_of_host = url.port
    except ValueError:
        return base_url  # the client says what is wrong with it
    if port_of_host is None:
        return url._replace(netloc=f"{url.netloc}:{port}").geturl()
    if port_of_host != port:
        raise ValueError(f"port: it is {port}, but the host says {port_of_host}; leave it out of one of them")
    return base_url


def _text(extra: dict[str, Any], name: str) -> str | None:
    """Read a text; an empty form field is saved as null."""
    value = extra.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} in the connection's extra must be a text, not {type(value).__name__}")
    return value or None


def _number(extra: dict[str, Any], name: str, default: float) -> float:
    """Read a number that a form saves as a number, a URI as text, and an empty form field as null."""
    value = extra.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} in the connection's extra must be a number")
    return int(value) if isinstance(value, float) and value.is_integer() else value

"""One HTTP client for each connection in use, so that its rate limit holds and its connections to Stripe are reused."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from airflow_provider_stripe_identity._connection.client import client_from_connection

if TYPE_CHECKING:
    from airflow.models import Connection

    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient

#: Clients kept; the one that was not used for the longest goes first.
MAX_CLIENTS = 32
#: Seconds; a connection to Stripe that was idle for longer may have been dropped on the way without a word.
MAX_IDLE = 20.0


class Clients:
    """
    Keeps the client of each connection, until the connection changes.

    :param at_most: upper limits of numbers in a connection's extra, by name
    """

    def __init__(self, at_most: dict[str, float]) -> None:
        self._at_most = at_most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[tuple[object, ...], StripeIdentityClient, float]] = OrderedDict()

    def of(self, connection: Connection) -> StripeIdentityClient:
        """
        Return the client of a connection that was just looked up.

        :raises ValueError: naming the field of the connection that is wrong
        """
        content = (
            connection.host,
            connection.port,
            connection.schema,
            connection.login,
            connection.password,
            connection.extra,
        )
        connection_id = str(connection.conn_id)
        with self._lock:
            kept_content, client, used = self._kept.pop(connection_id, ((), None, 0.0))
            if client and (kept_content != content or time.monotonic() - used > MAX_IDLE):
                client.close()  # requests under way still get their answers
            if client is None or kept_content != content:
                client = client_from_connection(connection, at_most=self._at_most)
            self._kept[connection_id] = (content, client, time.monotonic())
            if len(self._kept) > MAX_CLIENTS:
                _, (_, oldest, _) = self._kept.popitem(last=False)
                oldest.close()
        return client

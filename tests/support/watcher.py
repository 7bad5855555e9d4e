"""What a watcher fired and the DAG on its asset saw, from Airflow's database: the API has a request for each run."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import psycopg

from airflow_provider_stripe_identity.testing import StripeIdentityServer
from support.airflow_stack import AirflowStack


def compare_watcher(
    airflow: AirflowStack, server: StripeIdentityServer, metadata: str, dag_id: str, verified: set[str]
) -> str:
    """
    Wait until the runs of a DAG have seen every verified person; return how many, and how often one was seen twice.

    :param metadata: the URI of Airflow's database, a PostgreSQL
    :param dag_id: a DAG on the asset whose task returns the references of the sessions that it sees
    :param verified: the references of all whose sessions were verified
    """

    def rows(query: str, *parameters: str) -> list[Any]:
        with psycopg.connect(metadata) as connection:
            found = connection.execute(query, parameters).fetchall()
        return [json.loads(value) if isinstance(value, str) else value for (value,) in found]

    def fired() -> Counter[str]:
        extras = rows("SELECT extra FROM asset_event WHERE extra::text LIKE %s", "%from_trigger%")
        return Counter(extra["payload"]["client_reference_id"] for extra in extras)

    def seen() -> Counter[str]:
        returned = rows("SELECT value FROM xcom WHERE dag_id = %s AND key = 'return_value'", dag_id)
        return Counter(reference for references in returned for reference in references)

    def lost() -> str:
        return f"no event of {verified - fired().keys()}, no run of {fired().keys() - seen().keys()}"

    airflow.until(lambda: fired().keys() == verified, 60, "events of all who were verified", lost)
    events, late = fired(), 0
    twice = sum(events.values()) - len(events)

    def all_seen() -> bool:
        nonlocal late
        if seen().keys() >= verified:
            return True
        # An event that came while an earlier one was queued waits for the next one: Airflow's #54659.
        late += 1
        server.verify(server.create_session(client_reference_id=f"late_{late}")["id"])
        time.sleep(5)
        return False

    airflow.until(all_seen, 120, "runs for all who were verified", lost)
    again = sum(seen().values()) - len(seen())
    return (
        f"the watcher: {len(verified)} verified, none lost, {twice} fired twice, {again} seen twice, "
        f"{late} more events to let Airflow see the last ones"
    )

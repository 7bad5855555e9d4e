"""What an event says of its session, in the API version of its time."""

from __future__ import annotations

from airflow_provider_stripe_identity.testing.api import Response
from airflow_provider_stripe_identity.testing.server import RecordedRequest


def old_snapshots(request: RecordedRequest, response: Response) -> None:
    """Change a list of events: old versions lack the reference. For ``after_answer``."""
    for event in response.body["data"] if (request.path, response.status) == ("/v1/events", 200) else ():
        event["data"]["object"] = {
            name: value for name, value in event["data"]["object"].items() if name != "client_reference_id"
        }

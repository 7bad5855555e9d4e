"""airbyte-cdk's declarative source: a window each hour, a cursor in it, an API budget of 24 requests per second."""

from __future__ import annotations

import json
import logging
import sys

from airbyte_cdk.models import (
    AirbyteStream,
    ConfiguredAirbyteCatalog,
    ConfiguredAirbyteStream,
    DestinationSyncMode,
    SyncMode,
    Type,
)
from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource

SCHEMA = {"type": "object", "additionalProperties": True, "properties": {"created": {"type": "integer"}}}


def manifest(url: str, start: int, end: int, workers: int) -> dict:
    def at(second: int) -> dict:
        return {"type": "MinMaxDatetime", "datetime": str(second), "datetime_format": "%s"}

    return {
        "version": "6.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["sessions"]},
        "concurrency_level": {"type": "ConcurrencyLevel", "default_concurrency": workers},
        "api_budget": {
            "type": "HTTPAPIBudget",
            "policies": [
                {
                    "type": "MovingWindowCallRatePolicy",
                    "rates": [{"type": "Rate", "limit": 24, "interval": "PT1S"}],
                    "matchers": [],
                }
            ],
        },
        "streams": [
            {
                "type": "DeclarativeStream",
                "name": "sessions",
                "primary_key": "id",
                "schema_loader": {"type": "InlineSchemaLoader", "schema": SCHEMA},
                "transformations": [{"type": "RemoveFields", "field_pointers": [["client_secret"], ["url"]]}],
                "incremental_sync": {
                    "type": "DatetimeBasedCursor",
                    "cursor_field": "created",
                    "datetime_format": "%s",
                    "start_datetime": at(start),
                    "end_datetime": at(end - 1),
                    "step": "PT1H",
                    "cursor_granularity": "PT1S",
                },
                "retriever": {
                    "type": "SimpleRetriever",
                    "record_selector": {
                        "type": "RecordSelector",
                        "extractor": {"type": "DpathExtractor", "field_path": ["data"]},
                    },
                    "requester": {
                        "type": "HttpRequester",
                        "url_base": url,
                        "path": "/v1/identity/verification_sessions",
                        "http_method": "GET",
                        "authenticator": {"type": "BearerAuthenticator", "api_token": "sk_test_emulator"},
                        "request_parameters": {
                            "limit": "100",
                            "created[gte]": "{{ stream_interval.start_time }}",
                            "created[lte]": "{{ stream_interval.end_time }}",
                        },
                    },
                    "paginator": {
                        "type": "DefaultPaginator",
                        "page_token_option": {
                            "type": "RequestOption",
                            "inject_into": "request_parameter",
                            "field_name": "starting_after",
                        },
                        "pagination_strategy": {
                            "type": "CursorPagination",
                            "cursor_value": "{{ last_record['id'] }}",
                            "stop_condition": "{{ not response['has_more'] }}",
                        },
                    },
                },
            }
        ],
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
    }


def main(url: str, out: str, start: int, end: int, workers: int) -> None:
    stream = AirbyteStream(
        name="sessions", json_schema=SCHEMA, supported_sync_modes=[SyncMode.full_refresh, SyncMode.incremental]
    )
    catalog = ConfiguredAirbyteCatalog(
        streams=[
            ConfiguredAirbyteStream(
                stream=stream, sync_mode=SyncMode.incremental, destination_sync_mode=DestinationSyncMode.append
            )
        ]
    )
    source = ConcurrentDeclarativeSource(
        catalog=catalog, config={}, state=[], source_config=manifest(url, start, end, workers)
    )
    with open(out, "w") as file:
        for message in source.read(logging.getLogger("airbyte"), {}, catalog, []):
            if message.type == Type.RECORD:
                file.write(json.dumps(message.record.data) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))

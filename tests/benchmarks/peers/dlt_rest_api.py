"""dlt's rest_api source, 24 parallel resources, written as JSON lines."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"
os.environ["DATA_WRITER__DISABLE_COMPRESSION"] = "true"

import dlt
from dlt.sources.rest_api import rest_api_source


def main(url: str, out: str, start: int, end: int, workers: int) -> None:
    os.environ["EXTRACT__WORKERS"] = str(workers)
    length = (end - start) // 24
    source = rest_api_source(
        {
            "client": {
                "base_url": url,
                "auth": {"type": "bearer", "token": "sk_test_emulator"},
                "paginator": {
                    "type": "cursor",
                    "cursor_path": "data[-1].id",
                    "cursor_param": "starting_after",
                    "has_more_path": "has_more",
                },
            },
            "resource_defaults": {"write_disposition": "replace", "table_name": "sessions", "max_table_nesting": 0},
            "resources": [
                {
                    "name": f"sessions_{n}",
                    "parallelized": True,
                    "endpoint": {
                        "path": "v1/identity/verification_sessions",
                        "data_selector": "data",
                        "params": {
                            "limit": 100,
                            "created[gte]": start + n * length,
                            "created[lt]": start + (n + 1) * length,
                        },
                    },
                    "processing_steps": [
                        {"map": lambda row: {k: v for k, v in row.items() if k not in ("client_secret", "url")}}
                    ],
                }
                for n in reversed(range(24))
            ],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "peer",
            destination=dlt.destinations.filesystem(f"file://{folder}/out"),
            dataset_name="peer",
            pipelines_dir=f"{folder}/state",
        )
        pipeline.run(source, loader_file_format="jsonl")
        files = sorted(Path(folder, "out").rglob("sessions/*.jsonl"))
        Path(out).write_bytes(b"".join(file.read_bytes() for file in files))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))

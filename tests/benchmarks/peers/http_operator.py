"""Airflow's HttpOperator with a pagination_function, which reads one page after another."""

from __future__ import annotations

import json
import os
import sys
from urllib.parse import urlsplit

ENDPOINT = "v1/identity/verification_sessions"


def next_page(response):
    page = response.json()
    return {"data": {"starting_after": page["data"][-1]["id"]}} if page["has_more"] else None


def rows(responses):
    return [
        {name: value for name, value in row.items() if name not in ("client_secret", "url")}
        for response in responses
        for row in response.json()["data"]
    ]


def main(url: str, out: str, start: int, end: int, workers: int) -> None:
    from airflow.providers.http.operators.http import HttpOperator

    parts = urlsplit(url)
    os.environ["AIRFLOW_CONN_PEER"] = json.dumps(
        {"conn_type": "http", "host": parts.hostname, "port": parts.port, "schema": "http"}
    )
    operator = HttpOperator(
        task_id="peer",
        http_conn_id="peer",
        method="GET",
        endpoint=ENDPOINT,
        data={"limit": 100, "created[gte]": start, "created[lt]": end},
        headers={"Authorization": "Bearer sk_test_emulator"},
        pagination_function=next_page,
        response_filter=rows,
    )
    with open(out, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in operator.execute({}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))

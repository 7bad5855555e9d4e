"""
Run the export DAG for one day and show the day's funnel: ``make demo``.

Without ``STRIPE_API_KEY`` the sessions come from the embedded Stripe Identity server, with it from Stripe itself.
``DAY=2026-01-31`` chooses another day. Everything is written below ``.demo``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import duckdb

from airflow_provider_stripe_identity.testing import StripeIdentityServer

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / ".demo"
LAKE = DEMO / "lake"
WAREHOUSE = DEMO / "warehouse.duckdb"
SESSIONS_A_DAY = 10_000

REPORT = {
    "How the sessions stand": """
        SELECT status, count(*) AS sessions, round(100 * count(*) / sum(count(*)) OVER (), 1) AS percent
        FROM day GROUP BY status ORDER BY sessions DESC""",
    "Why sessions failed": """
        SELECT last_error.code AS reason, count(*) AS sessions
        FROM day WHERE status <> 'verified' AND last_error.code IS NOT NULL
        GROUP BY reason ORDER BY sessions DESC, reason LIMIT 10""",
    "From the first session to a verified person": """
        WITH persons AS (
            SELECT client_reference_id, count(*) AS tries,
                   bool_or(last_verification_report IS NOT NULL) AS submitted, bool_or(status = 'verified') AS verified
            FROM day WHERE client_reference_id IS NOT NULL GROUP BY client_reference_id
        )
        SELECT count(*) AS persons, count_if(submitted) AS submitted, count_if(verified) AS verified,
               round(100 * count_if(verified) / count(*), 1) AS "conversion %", round(avg(tries), 2) AS "tries each"
        FROM persons""",
}


def main() -> None:
    """Do it all."""
    api_key = os.environ.get("STRIPE_API_KEY")
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    # The embedded server's day is always the same, so that a second run can be compared with the first.
    day = date.fromisoformat(os.environ.get("DAY") or (str(yesterday) if api_key else "2026-01-15"))
    with nullcontext() if api_key else StripeIdentityServer() as server:
        if server:
            start = datetime.combine(day, time(), UTC)
            server.populate(SESSIONS_A_DAY, start, start + timedelta(days=1))
            connection = server.airflow_connection()
            print(f"Embedded Stripe Identity server: {server.url}, {SESSIONS_A_DAY:,} sessions on {day}")
        else:
            connection = json.dumps({"conn_type": "stripe_identity", "password": api_key})
            print(f"Stripe: the sessions of {day}")
        environment = os.environ | {
            "AIRFLOW_HOME": str(DEMO / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(HERE),
            "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": connection,
            "STRIPE_IDENTITY_LAKE": LAKE.as_uri(),
            "STRIPE_IDENTITY_WAREHOUSE": str(WAREHOUSE),
        }
        airflow("db", "migrate", environment=environment)
        # A manual run's data interval is the day before its logical date, as a scheduled run's would be.
        airflow("dags", "test", "stripe_identity_daily", str(day + timedelta(days=1)), environment=environment)
    report(day)


def airflow(*command: str, environment: dict[str, str]) -> None:
    """Run one Airflow command, its output in a log file."""
    log = DEMO / f"airflow-{command[0]}-{command[1]}.log"
    log.parent.mkdir(exist_ok=True)
    print(f"airflow {' '.join(command)}   (log: {log.relative_to(DEMO.parent)})", flush=True)
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *command], env=environment, stdout=output, stderr=output, check=False
        )
    if done.returncode:
        sys.exit(f"{log.read_text()[-4000:]}\nairflow {' '.join(command)} failed, see {log}")


def report(day: date) -> None:
    """Print the day's funnel, and where everything lies."""
    with duckdb.connect(str(WAREHOUSE), read_only=True) as warehouse:
        warehouse.sql(
            f"CREATE TEMP VIEW day AS FROM verification_sessions WHERE created >= epoch(DATE '{day}') "
            f"AND created < epoch(DATE '{day + timedelta(days=1)}')"
        )
        for title, query in REPORT.items():
            print(f"\n{title}")
            warehouse.sql(query).show()
    print(f"Object:    {LAKE / 'verification_sessions' / f'dt={day}' / 'sessions.jsonl.gz'}")
    print(f"Warehouse: {WAREHOUSE} (table verification_sessions)")


if __name__ == "__main__":
    main()

"""
Two days of sessions in a DuckDB table, and the funnel: ``make demo``.

Day one is exported. On day two people are verified, give up or are redacted, and the changes are merged into the same
table. Without ``STRIPE_API_KEY`` the sessions come from the embedded Stripe Identity server, with it from Stripe itself
(the key then needs *Events: Read*). ``DAY=2026-01-31`` chooses another day one, at most four weeks ago. Everything is
written below ``.demo``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from pathlib import Path

import duckdb

from airflow_provider_stripe_identity.testing import StripeIdentityServer

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / ".demo"
LAKE = DEMO / "lake"
WAREHOUSE = DEMO / "warehouse.duckdb"
BEFORE = DEMO / "warehouse-day-one.duckdb"
SESSIONS_A_DAY = 10_000

REPORT = {
    "What day two changed in the sessions of day one": """
        SELECT before.status AS "on day one", after.status AS "after day two", count(*) AS sessions,
               count(after.redaction) AS redacted
        FROM before JOIN days AS after USING (id)
        WHERE before.status <> after.status OR after.redaction IS DISTINCT FROM before.redaction
        GROUP BY ALL ORDER BY sessions DESC""",
    "How the sessions stand": """
        SELECT status, count(*) AS sessions, round(100 * count(*) / sum(count(*)) OVER (), 1) AS percent
        FROM days GROUP BY status ORDER BY sessions DESC""",
    "Why sessions failed": """
        SELECT last_error ->> 'code' AS reason, count(*) AS sessions
        FROM days WHERE status <> 'verified' AND reason IS NOT NULL
        GROUP BY reason ORDER BY sessions DESC, reason LIMIT 10""",
    "From the first session to a verified person": """
        WITH persons AS (
            SELECT client_reference_id, count(*) AS tries,
                   bool_or(last_verification_report IS NOT NULL) AS submitted, bool_or(status = 'verified') AS verified
            FROM days WHERE client_reference_id IS NOT NULL GROUP BY client_reference_id
        )
        SELECT count(*) AS persons, count_if(submitted) AS submitted, count_if(verified) AS verified,
               round(100 * count_if(verified) / count(*), 1) AS "conversion %", round(avg(tries), 2) AS "tries each"
        FROM persons""",
}


def main() -> None:
    """Do it all."""
    api_key = os.environ.get("STRIPE_API_KEY")
    today = datetime.now(UTC).date()
    one = date.fromisoformat(os.environ.get("DAY") or str(today - timedelta(days=2)))
    two, three = one + timedelta(days=1), one + timedelta(days=2)
    now = midnight(two)
    with nullcontext() if api_key else StripeIdentityServer(clock=lambda: now.timestamp() + 60) as server:
        if server:
            server.populate(SESSIONS_A_DAY, midnight(one), midnight(two))
            connection = server.airflow_connection()
            print(f"Embedded Stripe Identity server: {server.url}, {SESSIONS_A_DAY:,} sessions on {one}")
        else:
            connection = json.dumps({"conn_type": "stripe_identity", "password": api_key})
            print(f"Stripe: the sessions of {one}, and what changed on {two}")
        environment = os.environ | {
            "AIRFLOW_HOME": str(DEMO / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(HERE),
            "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": connection,
            "STRIPE_IDENTITY_LAKE": LAKE.as_uri(),
            "STRIPE_IDENTITY_WAREHOUSE": str(WAREHOUSE),
        }
        WAREHOUSE.unlink(missing_ok=True)
        airflow("db", "migrate", environment=environment)
        # A manual run's data interval is the day before its logical date, as a scheduled run's would be.
        airflow("dags", "test", "stripe_identity_daily", str(two), environment=environment)
        shutil.copy(WAREHOUSE, BEFORE)
        if server:
            go_on(server)
            now = midnight(three)
        airflow("dags", "test", "stripe_identity_to_duckdb", str(three), environment=environment)
    report(one)


def midnight(day: date) -> datetime:
    """Return when a day begins, in UTC."""
    return datetime.combine(day, time(), UTC)


def go_on(server: StripeIdentityServer) -> None:
    """Let day two happen to the sessions of day one."""
    waiting = list(islice(server.sessions(status="requires_input"), 600))
    for session in waiting[:400]:
        server.verify(session["id"])
    for session in waiting[400:]:
        server.cancel(session["id"])
    for session in list(islice(server.sessions(status="verified"), 400, 425)):
        server.redact(session["id"])
    print("Day two: 400 more are verified, 200 canceled, 25 redacted")


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
    """Print what changed, the funnel, and where everything lies."""
    with duckdb.connect(str(WAREHOUSE), read_only=True) as warehouse:
        warehouse.execute(f"ATTACH '{BEFORE}' AS day_one (READ_ONLY)")
        warehouse.sql("CREATE TEMP VIEW before AS FROM day_one.verification_sessions")
        warehouse.sql(
            f"CREATE TEMP VIEW days AS FROM verification_sessions WHERE created >= epoch(DATE '{day}') "
            f"AND created < epoch(DATE '{day + timedelta(days=2)}')"
        )
        for title, query in REPORT.items():
            print(f"\n{title}")
            warehouse.sql(query).show()
    print(f"Objects:   {LAKE}")
    print(f"Warehouse: {WAREHOUSE} (table verification_sessions)")


if __name__ == "__main__":
    main()

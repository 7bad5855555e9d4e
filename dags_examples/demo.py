"""
Two days of sessions in a DuckDB table, and a report: ``make demo``.

Day one is exported. On day two people are verified, give up or are redacted, and the changes are merged into the same
table; the history tells how long verification took. Without ``STRIPE_API_KEY`` the sessions come from the emulator,
with it from Stripe itself (the key then needs *Events: Read*). ``DAY=2026-01-31`` chooses another day one, at most four
weeks ago. Everything is written below ``.demo``.
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
from typing import Any

import duckdb
from demo_report import STATUSES, Figures, to_html, to_terminal
from rich.console import Console
from rich.markup import escape

from airflow_provider_stripe_identity.schema import timeline
from airflow_provider_stripe_identity.testing import StripeIdentityServer

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / ".demo"
LAKE = DEMO / "lake"
WAREHOUSE = DEMO / "warehouse.duckdb"
BEFORE = DEMO / "warehouse-day-one.duckdb"
PAGE = DEMO / "report.html"
SESSIONS_A_DAY = 10_000
CONSOLE = Console(highlight=False, soft_wrap=True)

#: From a time in seconds on, the name of a bar.
TIMES = {
    0: "< 1 min",
    60: "1-2 min",
    120: "2-5 min",
    300: "5-10 min",
    600: "10-60 min",
    3600: "1-24 h",
    86400: "> 1 day",
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
            source = "emulator"
            CONSOLE.print(f"The emulator, {server.url}: {SESSIONS_A_DAY:,} sessions on {one}")
        else:
            connection = json.dumps({"conn_type": "stripe_identity", "password": api_key})
            source = "Stripe"
            CONSOLE.print(f"Stripe: the sessions of {one}, and what changed on {two}")
        environment = os.environ | {
            "AIRFLOW_HOME": str(DEMO / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(HERE),
            "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": connection,
            "STRIPE_IDENTITY_LAKE": LAKE.as_uri(),
            "AIRFLOW_CONN_DUCKDB_DEFAULT": json.dumps({"conn_type": "duckdb", "host": str(WAREHOUSE)}),
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
        history = ("stripe_identity_history_backfill", str(three), "--conf", json.dumps({"days": 2}))
        airflow("dags", "test", *history, environment=environment)
    counted = figures(one, source)
    PAGE.write_text(to_html(counted))
    CONSOLE.print()
    to_terminal(counted, CONSOLE)
    CONSOLE.print(f"\nWith charts: {PAGE}")
    CONSOLE.print(f"Objects:     {LAKE}\nTables:      {WAREHOUSE} (verification_sessions, verification_session_events)")


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
    CONSOLE.print("Day two: 400 more people are verified, 200 give up, 25 sessions are redacted")


def airflow(*command: str, environment: dict[str, str]) -> None:
    """Run one Airflow command, its output in a log file."""
    log = DEMO / f"airflow-{command[0]}-{command[1]}.log"
    log.parent.mkdir(exist_ok=True)
    shown = f"airflow {' '.join(command)}"
    with log.open("w") as output, CONSOLE.status(shown):
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *command], env=environment, stdout=output, stderr=output, check=False
        )
    if done.returncode:
        sys.exit(f"{log.read_text()[-4000:]}\n{shown} failed, see {log}")
    CONSOLE.print(f"[green]✓[/] {escape(shown)}")


def figures(day: date, source: str) -> Figures:
    """Count what the report shows, in the warehouse."""
    with duckdb.connect(str(WAREHOUSE), read_only=True) as warehouse:
        warehouse.execute(f"ATTACH '{BEFORE}' AS day_one (READ_ONLY)")
        warehouse.sql(
            f"CREATE TEMP VIEW days AS FROM verification_sessions WHERE created >= epoch(DATE '{day}') "
            f"AND created < epoch(DATE '{day + timedelta(days=2)}')"
        )
        warehouse.sql(f"CREATE TEMP VIEW timeline AS {timeline('duckdb', 'verification_session_events')}")

        def rows(query: str) -> list[Any]:
            return warehouse.sql(query).fetchall()

        (people, submitted, verified), *_ = rows("""
            SELECT count(*), count_if(submitted), count_if(verified) FROM (
                SELECT bool_or(last_verification_report IS NOT NULL) AS submitted,
                       bool_or(status = 'verified') AS verified
                FROM days WHERE client_reference_id IS NOT NULL GROUP BY client_reference_id)""")
        (median, attempts), *_ = rows("""
            SELECT quantile_disc(seconds_to_verified, 0.5), round(avg(attempts), 2)
            FROM timeline WHERE verified_at IS NOT NULL""")
        times = dict.fromkeys(TIMES.values(), 0)
        for seconds, count in rows("""
                SELECT seconds_to_verified, count(*) FROM timeline
                WHERE seconds_to_verified IS NOT NULL GROUP BY ALL"""):
            times[TIMES[max(start for start in TIMES if start <= seconds)]] += count
        hours: list[dict[str, int]] = [{} for _ in range(24)]
        for hour, status, count in rows("SELECT created % 86400 // 3600, status, count(*) FROM days GROUP BY ALL"):
            hours[hour][status] = count
        moved = {
            (before, after): count
            for before, after, count in rows("""
                SELECT before.status, after.status, count(*)
                FROM day_one.verification_sessions AS before JOIN days AS after USING (id) GROUP BY ALL""")
        }
        before = {status: sum(n for (was, _), n in moved.items() if was == status) for status in STATUSES}
        after = {status: sum(n for (_, now), n in moved.items() if now == status) for status in STATUSES}
        sessions = sum(after.values())
        reasons = rows("""
            SELECT last_error ->> 'code' AS reason, count(*) AS sessions
            FROM days WHERE status <> 'verified' AND reason IS NOT NULL
            GROUP BY reason ORDER BY sessions DESC, reason LIMIT 8""")
        (redacted,), *_ = rows("SELECT count(*) FROM days WHERE redaction IS NOT NULL")
    return Figures(
        f"Sessions of {day}, and what {day + timedelta(days=1)} changed ({source})",
        {
            "sessions": f"{sessions:,}",
            "people": f"{people:,}",
            "verified": f"{100 * verified / max(people, 1):.1f} %",
            "median time": f"{median // 60:.0f}:{median % 60:02.0f} min" if median is not None else "-",
            "attempts": f"{attempts or 0:.2f}",
            "redacted": f"{redacted:,}",
        },
        {"created a session": people, "submitted documents": submitted, "verified": verified},
        dict(reasons),
        times,
        hours,
        before,
        after,
        moved,
    )


if __name__ == "__main__":
    main()

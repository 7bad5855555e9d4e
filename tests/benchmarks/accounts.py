"""
Three hundred connected accounts in one task, beside a mapped task per account, on a real Airflow with one machine's
LocalExecutor: ``python tests/benchmarks/accounts.py``.

Of the accounts 280 have no sessions in the window, 19 have twenty, one has 20,000. Mapped tasks are measured for 30 of
them without the large one, and the time is scaled by ten; both as the example maps them, one after another, and eight
at once, where each keeps to Stripe's limits but not all together. The emulator refuses more than 25 requests per
second.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.airflow_stack import AirflowStack

from airflow_provider_stripe_identity.testing import StripeIdentityServer

MAY_1, MAY_2 = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)
ACCOUNTS, MAPPED = 300, 30
DAGS = """
from datetime import UTC, datetime

from airflow.sdk import DAG
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

WINDOW = dict(created_gte=datetime(2026, 5, 1, tzinfo=UTC), created_lt=datetime(2026, 5, 2, tzinfo=UTC))

with DAG("one_task", schedule=None):
    StripeIdentityToObjectStorageOperator(
        task_id="export", destination="file://{folder}/all.jsonl.gz", stripe_accounts="connected", **WINDOW
    )

for dag_id, at_once in (("mapped", 1), ("mapped_at_once", 8)):
    with DAG(dag_id, schedule=None):
        StripeIdentityToObjectStorageOperator.partial(
            task_id="export",
            destination="file://{folder}/{{{{ task.stripe_account }}}}.jsonl.gz",
            max_active_tis_per_dag=at_once,
            **WINDOW,
        ).expand(stripe_account={mapped!r})
"""


def main() -> None:
    accounts = [f"acct_{number:03}" for number in range(ACCOUNTS)]
    with StripeIdentityServer() as server, tempfile.TemporaryDirectory() as folder:
        for number, account in enumerate(accounts):
            server.connect_account(account)
            if number % 15 == 5:
                server.populate(20_000 if number == 155 else 20, MAY_1, MAY_2, account=account)
        server.rate_limit = 25
        dags, home = Path(folder, "dags"), Path(folder, "airflow")
        dags.mkdir()
        (dags / "accounts.py").write_text(DAGS.format(folder=folder, mapped=accounts[:MAPPED]))
        table = ["| | accounts | time | requests | answered with 429 | for 300 accounts |", "|---" * 6 + "|"]
        environment = {"AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": server.airflow_connection()}
        with AirflowStack(home, dags, environment) as airflow:
            for dag_id, name, read in (
                ("one_task", "one task", ACCOUNTS),
                ("mapped", "mapped tasks, one after another", MAPPED),
                ("mapped_at_once", "mapped tasks, eight at once", MAPPED),
            ):
                before = len(server.requests)
                run_id = airflow.trigger(dag_id)
                began = time.monotonic()
                state = airflow.wait(dag_id, run_id, timeout=900)
                seconds = time.monotonic() - began
                assert state == "success", state
                statuses = Counter(request.status for request in list(server.requests)[before:])
                table.append(
                    f"| {name} | {read} | {seconds:.0f} s | {statuses.total()} | {statuses[429]} "
                    f"| {seconds * ACCOUNTS / read:.0f} s{'' if read == ACCOUNTS else ', scaled'} |"
                )
                print(table[-1], file=sys.stderr, flush=True)
    print("\n".join(table))
    (Path(__file__).parent / "results-accounts.md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()

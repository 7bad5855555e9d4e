"""One export that runs for most of the soak, and says in which process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator


class LongExport(StripeIdentityToObjectStorageOperator):
    def execute(self, context: Any) -> dict[str, Any]:
        Path(os.environ["SOAK_PROCESS"]).write_text(str(os.getpid()))
        return super().execute(context)


with DAG("long_export", schedule=None, params={"created_gte": "", "created_lt": ""}):
    LongExport(
        task_id="export",
        stripe_conn_id="slow",
        created_gte="{{ params.created_gte }}",
        created_lt="{{ params.created_lt }}",
        destination=f"{os.environ['STRIPE_IDENTITY_LAKE']}/long_export/sessions.jsonl",
    )

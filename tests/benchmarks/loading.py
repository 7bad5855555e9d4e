"""
The load operator against the bulk path of PostgreSQL and of DuckDB: ``make bench``.

Both load the same object into the same table, with the same merge; each runs in a process of its own. The bulk path is
what a user would write, and checks no line: ``COPY`` of the lines into ``jsonb``, and DuckDB's ``read_json``. The table
goes to ``results-loading.md`` beside this file.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measuring import measure, measured, print_table

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
TABLE = "verification_sessions"
#: Both sides in turn, so that what else the machine does meets both.
ROUNDS = 3


def objects(folder: Path, *sizes: int) -> Iterator[Path]:
    """Write objects of so many rows: those of the emulator, each many times with an id of its own."""
    from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
    from airflow_provider_stripe_identity.testing import StripeIdentityServer

    with StripeIdentityServer() as server:
        server.populate(1_000, 1_768_435_200, 1_768_521_600)
        rows = [{name: one[name] for name in DEFAULT_FIELDS if name in one} for one in server.sessions()]
    for size in sizes:
        path = folder / f"{size}.jsonl.gz"
        with gzip.open(path, "wt", compresslevel=1) as lines:
            for number in range(size):
                row = rows[number % len(rows)]
                lines.write(json.dumps(row | {"id": f"{row['id']}{number // len(rows)}"}) + "\n")
        yield path


# What runs in a process of its own


def ours(warehouse: str, path: Path) -> None:
    """Load with the operator."""
    from airflow_provider_stripe_identity.operators import StripeIdentityToWarehouseOperator

    connection = {"conn_type": "duckdb", "host": warehouse}
    is_postgres = warehouse.startswith("postgres:")
    os.environ["AIRFLOW_CONN_WAREHOUSE"] = warehouse if is_postgres else json.dumps(connection)
    written = {"uri": path.as_uri(), "conn_id": None, "as_of": 100}
    StripeIdentityToWarehouseOperator(
        task_id="load", written=written, warehouse_conn_id="warehouse", table=TABLE
    ).execute({})


def bulk(warehouse: str, path: Path) -> None:
    """Load with the warehouse's own means."""
    from airflow_provider_stripe_identity.schema import ddl, merge

    if warehouse.startswith("postgres:"):
        import psycopg

        record = f"jsonb_populate_record(CAST(NULL AS {TABLE}), line)"
        with psycopg.connect(warehouse) as connection, connection.cursor() as cursor, gzip.open(path) as lines:
            cursor.execute(ddl("postgres", TABLE))
            cursor.execute("CREATE TEMP TABLE staged (line JSONB)")
            with cursor.copy("COPY staged FROM STDIN (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')") as copy:
                while piece := lines.read(256 * 1024):
                    copy.write(piece)
            cursor.execute(merge("postgres", TABLE, f"(SELECT record.* FROM staged, {record} AS record)", as_of=100))
    else:
        import duckdb

        from airflow_provider_stripe_identity.schema import columns

        types = {"boolean": "BOOLEAN", "integer": "BIGINT", "json": "JSON", "text": "VARCHAR"}
        kinds = ", ".join(f"{column.name}: '{types[column.type]}'" for column in columns())
        with duckdb.connect(warehouse) as database:
            database.execute(ddl("duckdb", TABLE))
            rows = f"(FROM read_json('{path}', columns = {{{kinds}}}))"
            database.execute(merge("duckdb", TABLE, rows, as_of=100))


def run(kind: str, warehouse: str, path: str) -> None:
    import duckdb  # noqa: F401
    import psycopg  # noqa: F401

    import airflow_provider_stripe_identity.operators  # noqa: F401
    from airflow_provider_stripe_identity._airflow.version_compat import get_hook_lineage_collector

    get_hook_lineage_collector()  # A worker has loaded the plugins and imported all this before the task begins.
    measure(lambda: {"ours": ours, "bulk": bulk}[kind](warehouse, Path(path)))


# The table


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield what was measured, the figure, and what is asked for."""
    import psycopg
    from support.postgres_server import postgres_server

    with tempfile.TemporaryDirectory() as name, postgres_server() as uri:
        folder = Path(name)

        def empty(warehouse: str) -> str:
            """Return where a new table can be made."""
            if warehouse == "DuckDB":
                file = folder / "warehouse.duckdb"
                file.unlink(missing_ok=True)
                return str(file)
            with psycopg.connect(uri) as connection:
                connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
            return uri

        few, rated, many = objects(folder, 1_000, 100_000, 250_000)
        for warehouse in ("PostgreSQL", "DuckDB"):
            found = [
                [measured(__file__, kind, empty(warehouse), str(rated))["seconds"] for kind in ("ours", "bulk")]
                for _ in range(ROUNDS)
            ]
            ours_, bulk_ = (statistics.median(seconds) for seconds in zip(*found, strict=True))
            rate = f"{100_000 / ours_:,.0f} rows/s, bulk {100_000 / bulk_:,.0f}"
            yield f"{warehouse}: 100,000 rows into a new table", rate, ""
            yield f"{warehouse}: share of the bulk path's rate", f"{bulk_ / ours_:.0%}", "60 %"
            peaks = [measured(__file__, "ours", empty(warehouse), str(path))["peak_mib"] for path in (few, many)]
            yield (
                f"{warehouse}: peak memory of 250,000 rows over that of 1,000 ({peaks[0]:.0f} MiB)",
                f"{peaks[1] - peaks[0]:.0f} MiB",
                "40 MiB",
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(*sys.argv[1:])
    else:
        print_table(rows(), HERE / "results-loading.md")

"""What lineage and assets learn of an export."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime

import pytest
from airflow.providers.common.compat.openlineage.facet import SchemaDatasetFacet
from airflow.sdk import Asset, AssetAlias
from support.airflow_versions import HookLineageCollector

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator
from airflow_provider_stripe_identity.operators import _lineage as lineage_module
from airflow_provider_stripe_identity.operators._lineage import openlineage

MAY_1, MAY_2 = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)


def export(path, **arguments) -> StripeIdentityToObjectStorageOperator:
    return StripeIdentityToObjectStorageOperator(
        task_id="export", destination=path.as_uri(), created_gte=MAY_1, created_lt=MAY_2, **arguments
    )


def test_hook_lineage_has_the_object_and_where_it_comes_from(server, tmp_path, monkeypatch):
    # Without a plugin that reads it, Airflow's own collector keeps nothing.
    collector = HookLineageCollector()
    monkeypatch.setattr(lineage_module, "get_hook_lineage_collector", lambda: collector)
    operator = export(tmp_path / "x.jsonl")
    operator.execute({})
    collected = collector.collected_assets
    (source,), (written,) = collected.inputs, collected.outputs
    assert source.asset.uri == "stripe://identity/verification_sessions"
    assert written.asset.uri == (tmp_path / "x.jsonl").as_uri()
    assert source.context is written.context is operator.hook


def test_openlineage_has_the_rows_the_bytes_and_the_columns(server, tmp_path):
    server.populate(30, MAY_1, MAY_2)
    path = tmp_path / "x.jsonl.gz"
    operator = export(path, fields=["id", "status"], extra_columns={"_exported_at": "now"})
    assert operator.get_openlineage_facets_on_complete(None) is None
    operator.execute({})
    lineage = operator.get_openlineage_facets_on_complete(None)
    (source,), (written,) = lineage.inputs, lineage.outputs
    assert (source.namespace, source.name) == ("stripe", "identity.verification_sessions")
    assert (written.namespace, written.name) == ("file", str(path))
    statistics = written.outputFacets["outputStatistics"]
    assert (statistics.rowCount, statistics.size) == (30, path.stat().st_size)
    assert len(gzip.decompress(path.read_bytes()).splitlines()) == 30
    schema: SchemaDatasetFacet = written.facets["schema"]
    assert [(field.name, field.type) for field in schema.fields] == [
        ("id", "text"),
        ("status", "text"),
        ("_exported_at", None),
    ]


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("s3://lake/a/b.jsonl", ("s3://lake", "a/b.jsonl")),
        ("gs://lake/b.jsonl", ("gs://lake", "b.jsonl")),
        ("file:///a/b c.jsonl", ("file", "/a/b c.jsonl")),
    ],
)
def test_datasets_are_named_as_openlineage_says(uri, named):
    (written,) = openlineage({"uri": uri, "sessions": 0, "bytes": 0}, []).outputs
    assert (written.namespace, written.name) == named


def test_assets_in_outlets_get_the_result(server, tmp_path):
    from airflow.sdk.execution_time.context import OutletEventAccessors

    asset, alias = Asset("exported"), AssetAlias("objects")
    events = OutletEventAccessors()
    result = export(tmp_path / "x.jsonl", outlets=[asset, alias]).execute({"outlet_events": events})
    assert events[asset].extra == result
    (event,) = events[alias].asset_alias_events
    assert (event.dest_asset_key.uri, event.extra) == (result["uri"], result)

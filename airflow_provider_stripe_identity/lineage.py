"""What Airflow's lineage and assets learn of an export: from Stripe, to one object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_stripe_identity.airflow_names import get_hook_lineage_collector

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_stripe_identity.hooks import StripeIdentityHook

SOURCE = "stripe://identity/verification_sessions"


def report_hook_lineage(hook: StripeIdentityHook, uri: str) -> None:
    """Tell Airflow's collector which object was written, for whatever reads it."""
    collector = get_hook_lineage_collector()
    collector.add_input_asset(context=hook, uri=SOURCE)
    collector.add_output_asset(context=hook, uri=uri)


def emit_asset_events(context: Context, outlets: Iterable[Any], result: dict[str, Any]) -> None:
    """
    Give every asset in ``outlets`` an event with the export's result as its extra.

    An alias gets an event of the object itself: an asset whose URI is the object's.
    """
    from airflow.sdk import Asset, AssetAlias

    for outlet in outlets:
        event = context["outlet_events"][outlet]
        if isinstance(outlet, AssetAlias):
            event.add(Asset(uri=result["uri"], name=result["uri"]), extra=result)
        else:
            event.extra.update(result)


def openlineage(result: dict[str, Any], columns: Iterable[str]) -> OperatorLineage[Any, Any]:
    """
    Return the OpenLineage datasets of an export, with the rows and bytes that were written.

    :param result: of the export
    :param columns: of its rows
    """
    from airflow.providers.common.compat.openlineage.facet import (
        Dataset,
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
        SchemaDatasetFacet,
        SchemaDatasetFacetFields,
    )
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_stripe_identity.schema import COLUMNS

    known = {column.name: column for column in COLUMNS}

    def field(name: str) -> SchemaDatasetFacetFields:
        column = known.get(name)
        return SchemaDatasetFacetFields(
            name=name, type=column and column.type, description=column and column.description
        )

    # https://openlineage.io/docs/spec/naming: the bucket is the namespace, the key the name.
    url = urlsplit(result["uri"])
    namespace = f"{url.scheme}://{url.netloc}" if url.netloc else url.scheme
    name = url.path.removeprefix("/") if url.netloc else url.path
    return OperatorLineage(
        inputs=[Dataset(namespace="stripe", name="identity.verification_sessions")],
        outputs=[
            OutputDataset(
                namespace=namespace,
                name=name,
                facets={"schema": SchemaDatasetFacet([field(name) for name in columns])},
                outputFacets={
                    "outputStatistics": OutputStatisticsOutputDatasetFacet(
                        rowCount=result["sessions"], size=result["bytes"], fileCount=1
                    )
                },
            )
        ],
    )

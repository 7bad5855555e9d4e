"""What Airflow's lineage and assets learn: of an export from Stripe to an object, of a load from objects to a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_stripe_identity._airflow.version_compat import get_hook_lineage_collector
from airflow_provider_stripe_identity._export.fields import FIELDS

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import SchemaDatasetFacet
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_stripe_identity.hooks import StripeIdentityHook

SOURCE = "stripe://identity/verification_sessions"


def report_hook_lineage(hook: StripeIdentityHook, uri: str) -> None:
    """Tell Airflow's collector which object was written, for whatever reads it."""
    collector = get_hook_lineage_collector()
    collector.add_input_asset(context=hook, uri=SOURCE)
    collector.add_output_asset(context=hook, uri=uri)


def report_load_lineage(context: Any, objects: Iterable[str], table: str) -> None:
    """
    Tell Airflow's collector which table was loaded from which objects.

    :param context: what loaded them
    :param objects: URIs
    :param table: URI
    """
    collector = get_hook_lineage_collector()
    for uri in objects:
        collector.add_input_asset(context=context, uri=uri)
    collector.add_output_asset(context=context, uri=table)


def emit_asset_events(context: Context, outlets: Iterable[Any], result: dict[str, Any]) -> None:
    """
    Give every asset in ``outlets`` an event with the result as its extra.

    An alias gets an event of what was written, the object or the table: an asset of its URI.
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
    )
    from airflow.providers.openlineage.extractors import OperatorLineage

    rows = result["events"] if "events" in result else result["sessions"]
    namespace, name = _dataset_of_object(result["uri"])
    return OperatorLineage(
        inputs=[Dataset(namespace="stripe", name="identity.verification_sessions")],
        outputs=[
            OutputDataset(
                namespace=namespace,
                name=name,
                facets={"schema": _schema(columns)},
                outputFacets={
                    "outputStatistics": OutputStatisticsOutputDatasetFacet(
                        rowCount=rows,
                        size=result["bytes"],
                        fileCount=1,
                    )
                },
            )
        ],
    )


def openlineage_of_load(
    objects: Iterable[str], namespace: str, name: str, columns: Iterable[str], rows: int
) -> OperatorLineage[Any, Any]:
    """
    Return the OpenLineage datasets of a load: each column of the table comes from the field of its name.

    :param objects: URIs
    :param namespace: and ``name``, of the table
    :param columns: that were loaded
    :param rows: how many were inserted or replaced
    """
    from airflow.providers.common.compat.openlineage.facet import (
        ColumnLineageDatasetFacet,
        Dataset,
        Fields,
        InputField,
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )
    from airflow.providers.openlineage.extractors import OperatorLineage

    columns = list(columns)
    sources = [_dataset_of_object(uri) for uri in objects]
    origins = {
        column: Fields(
            inputFields=[InputField(namespace=source[0], name=source[1], field=column) for source in sources],
            transformationType="IDENTITY",
            transformationDescription="",
        )
        for column in columns
    }
    return OperatorLineage(
        inputs=[
            Dataset(namespace=source[0], name=source[1], facets={"schema": _schema(columns)}) for source in sources
        ],
        outputs=[
            OutputDataset(
                namespace=namespace,
                name=name,
                facets={"schema": _schema(columns), "columnLineage": ColumnLineageDatasetFacet(fields=origins)},
                outputFacets={"outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=rows)},
            )
        ],
    )


def _dataset_of_object(uri: str) -> tuple[str, str]:
    """Return namespace and name, the bucket and the key: https://openlineage.io/docs/spec/naming."""
    url = urlsplit(uri)
    if not url.netloc:
        return url.scheme, url.path
    return f"{url.scheme}://{url.netloc}", url.path.removeprefix("/")


def _schema(columns: Iterable[str]) -> SchemaDatasetFacet:
    from airflow.providers.common.compat.openlineage.facet import SchemaDatasetFacet, SchemaDatasetFacetFields

    known = {field.name: field for field in FIELDS}

    def described(name: str) -> SchemaDatasetFacetFields:
        field = known.get(name)
        return SchemaDatasetFacetFields(name=name, type=field and field.type, description=field and field.description)

    return SchemaDatasetFacet([described(name) for name in columns])

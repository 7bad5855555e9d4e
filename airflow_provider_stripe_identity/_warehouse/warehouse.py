"""What a load asks of a warehouse, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._warehouse.objects import Lines
    from airflow_provider_stripe_identity._warehouse.rows import Rows
    from airflow_provider_stripe_identity._warehouse.tables import TableName
    from airflow_provider_stripe_identity.schema import Dialect


class Location(NamedTuple):
    """
    Where a table is.

    :param uri: by Airflow's conventions for assets
    :param namespace: and ``name``, by OpenLineage's: https://openlineage.io/docs/spec/naming
    """

    uri: str
    namespace: str
    name: str


class Loaded(NamedTuple):
    """
    What a load did.

    :param staged: rows that were read
    :param inserted: rows that the table did not have, by their key
    :param replaced: rows that the table had, in DuckDB also from an earlier part of the load: of sessions with a
        smaller or equal ``_as_of``, of events those erased
    """

    location: Location
    staged: int
    inserted: int
    replaced: int


class Warehouse(ABC):
    """
    The warehouse behind an Airflow connection.

    :param conn_id: the connection
    """

    dialect: ClassVar[Dialect]

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id

    @abstractmethod
    def load(self, table: TableName, rows: Rows, objects: Sequence[Lines]) -> Loaded:
        """
        Bring a table up to date with the rows of objects, or leave it as it is.

        :raises LoadError: for what another try cannot change
        :raises WarehouseError: for any other error of the warehouse, without a word of the rows
        """


def url_part(text: Any) -> str:
    """Return a part of a URI's path or authority, quoted."""
    from urllib.parse import quote

    return quote(str(text), safe="")

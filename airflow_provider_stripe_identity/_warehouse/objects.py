"""The lines of the objects that the exports wrote, read through their stores' connections and checked one by one."""

from __future__ import annotations

import gzip
import io
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity._export.storage import is_compressed
from airflow_provider_stripe_identity._stripe_api.errors import scrub
from airflow_provider_stripe_identity._warehouse.errors import LoadError

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._export.fields import Field

log = logging.getLogger(__name__)

#: Object stores are asked for pieces of about this size.
_READ_BYTES = 1024 * 1024


class WrittenObject(NamedTuple):
    """
    One object, as the result of the export that wrote it describes it.

    :param as_of: epoch seconds; None where each row is as of its own event
    :param is_history: whether its rows are all events, and not sessions
    """

    uri: str
    conn_id: str | None
    as_of: int | None
    is_history: bool


def written_objects(written: Any) -> list[WrittenObject]:
    """
    Read the results of exports.

    :param written: the result of one export, or an iterable of results
    :raises ValueError: for anything else
    """
    results = [written] if isinstance(written, Mapping) else written
    if isinstance(results, str) or not isinstance(results, Iterable):
        raise ValueError(f"written must be the result of an export (export.output), or a list of them, not {written!r}")
    objects = []
    for result in results:
        if not isinstance(result, Mapping) or not isinstance(result.get("uri"), str):
            raise ValueError(
                "written must hold results of exports, each with a uri; was an export skipped, or is it another task?"
            )
        if "staged" in result:
            raise ValueError(
                f"written must hold results of exports, and this is that of a load into {result['uri']}: "
                "pass export.output"
            )
        as_of = result.get("as_of")
        if as_of is not None and (isinstance(as_of, bool) or not isinstance(as_of, int)):
            raise ValueError(f"written: as_of of {result['uri']} must be epoch seconds or null")
        objects.append(WrittenObject(result["uri"], result.get("conn_id"), as_of, "events" in result))
    return objects


class Lines:
    """
    The lines of one object, each checked when it is read: one JSON object that fits the columns.

    :param written: the object
    :param columns: of the table, without those that the merge sets
    :param needs_as_of: whether a row must say when its event was, unless the object says when it was read
    :raises LoadError: while iterating, naming the object and the line; never a value
    """

    def __init__(self, written: WrittenObject, columns: Sequence[Field], *, needs_as_of: bool) -> None:
        self.written = written
        self.rows = 0
        self._columns = columns
        self._needs_event = needs_as_of and written.as_of is None
        self._decode = _decoder(columns)

    def __iter__(self) -> Iterator[bytes]:
        import msgspec

        uri, decode, needs_event = self.written.uri, self._decode, self._needs_event
        number = 0
        try:
            for number, line in enumerate(_lines(self.written), 1):
                row = decode(line)
                if needs_event and row.event_created is None:
                    raise LoadError(
                        f"{uri}, line {number}: neither the export's as_of nor the row's _event_created says "
                        "which of two rows of a session is the later one"
                    )
                if number == 1:
                    self._name_what_does_not_match(line)
                self.rows = number
                yield line if line.endswith(b"\n") else line + b"\n"
        except msgspec.MsgspecError as error:
            raise LoadError(f"{uri}, line {number}: not a row of this table: {scrub(str(error))}") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise LoadError(f"{uri}, after line {number}: the object is damaged: {error}") from None

    def _name_what_does_not_match(self, line: bytes) -> None:
        import msgspec

        row = msgspec.json.decode(line)
        asked_for = {
            column.name
            for column in self._columns
            if not (column.name in DEFAULT_FIELDS or column.from_event or column.from_account)
        }
        if absent := asked_for - row.keys():
            log.warning(
                "Not in the rows of %s, so null in the table (see fields and extra_columns of the export): %s",
                self.written.uri,
                ", ".join(sorted(absent)),
            )
        names = row.keys() - {column.name for column in self._columns}
        if names:
            log.warning(
                "Not loaded, because the table has no columns for them (see fields and extra_columns): %s",
                ", ".join(map(scrub, sorted(names))),
            )


def _lines(written: WrittenObject) -> Iterator[bytes]:
    from airflow.sdk import ObjectStoragePath

    path = ObjectStoragePath(written.uri, conn_id=written.conn_id)
    try:
        opened = path.fs.open(path.path, "rb", block_size=_READ_BYTES)
    except FileNotFoundError:
        where = ", or is it on another worker's disk" if written.uri.startswith("file:") else ""
        raise LoadError(f"{written.uri} does not exist: was it deleted after the export{where}?") from None
    # fsspec's own readline() is slow: it takes time that grows with the square of the lines' number.
    with opened, io.BufferedReader(opened, _READ_BYTES) as packed:
        if is_compressed(written.uri):
            with gzip.GzipFile(fileobj=packed) as lines:
                yield from lines
        else:
            yield from packed


def _decoder(columns: Sequence[Field]) -> Callable[[bytes], Any]:
    """Look only at what could stop a load: numbers, truth values, and what may not be null."""
    import msgspec

    number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    types: dict[str, Any] = {"boolean": bool, "integer": number, "json": dict, "text": str}
    required: list[tuple[str, Any]] = []
    optional: list[tuple[str, Any, None]] = []
    names = {}
    for place, column in enumerate(columns):
        attribute = "event_created" if column.name == "_event_created" else f"column_{place}"
        names[attribute] = column.name
        if not column.nullable:
            required.append((attribute, types[column.type]))
        elif column.type in ("boolean", "integer"):
            optional.append((attribute, types[column.type] | None, None))
    return msgspec.json.Decoder(msgspec.defstruct("Row", [*required, *optional], rename=names)).decode

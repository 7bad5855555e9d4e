"""A finished local file to its final place in object storage, where it appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

#: Which extra of this package brings the file system of a scheme.
_EXTRAS = {
    "s3": "amazon",
    "s3a": "amazon",
    "gs": "google",
    "gcs": "google",
    "abfs": "microsoft",
    "abfss": "microsoft",
    "adl": "microsoft",
}


def open_destination(url: str, conn_id: str | None = None) -> ObjectStoragePath:
    """
    Return the object that ``url`` names, its file system ready.

    :param url: ``scheme://[connection id@]bucket/key``, or ``file:///path``
    :param conn_id: Airflow connection of the store, instead of the one in the URL
    :raises ValueError: for a URL that names no object, or a scheme that nothing installed can write to
    """
    from airflow.sdk import ObjectStoragePath

    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"destination must be a URL such as s3://bucket/key or file:///path, not {url!r}")
    bucket, _, key = rest.partition("/")
    if scheme == "file" and bucket:
        raise ValueError(f"destination: a file URL has three slashes (file:///path), not {url!r}")
    if not key or key.endswith("/"):
        raise ValueError(f"destination must name one object, not a bucket or folder: {url!r}")
    try:
        path = ObjectStoragePath(url, conn_id=conn_id)
        _ = path.fs  # Airflow looks for the provider and the connection only now.
    except (ImportError, ValueError) as error:
        if scheme not in _EXTRAS:
            raise ValueError(f"destination: {error}") from error
        raise ValueError(
            f"destination: nothing installed can write to {scheme}:// ({error}); "
            f"pip install 'airflow-provider-stripe-identity[{_EXTRAS[scheme]}]'"
        ) from error
    return path


def clean_uri(path: ObjectStoragePath) -> str:
    """Return the object's URI without the connection id that Airflow keeps in it."""
    return f"{path.protocol}://{path.path}"


def put(local: Path, destination: ObjectStoragePath) -> None:
    """
    Copy a finished file to its destination, in one step that others can see.

    Writing to ``destination.open("wb")`` would not do: when an exception passes through it, fsspec's object
    stores keep the part that was written so far as a normal object.
    """
    if destination.protocol == "file":
        _replace(local, Path(destination.path))
    else:
        destination.fs.put_file(str(local), destination.path)


def _replace(local: Path, final: Path) -> None:
    """Copy beside the final place, then rename: on one file system a rename is one step."""
    final.parent.mkdir(parents=True, exist_ok=True)
    beside = final.parent / f".{final.name}.{uuid.uuid4().hex}.tmp"
    try:
        with local.open("rb") as source, beside.open("xb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        beside.replace(final)
    finally:
        beside.unlink(missing_ok=True)

"""A finished local file to its final place in object storage, where it appears whole or not at all."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from airflow_provider_stripe_identity._export.store_clients import check_remote, put_s3

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

#: What a store, its file system or Airflow reads as something else than a part of the name.
_AMBIGUOUS = re.compile(r"[?\\\x00-\x1f\x7f\ud800-\udfff]")

#: What S3, Google Cloud Storage and Azure Blob take, in UTF-8 (Azure: characters).
_LONGEST_KEY = 1024

_LARGEST_S3_REQUEST = 5 * 2**30


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
    scheme = scheme.lower()
    authority, _, key = rest.partition("/")
    if scheme == "file" and authority:
        raise ValueError(f"destination: a file URL has three slashes (file:///path), not {url!r}")
    if not key or key.endswith("/"):
        raise ValueError(f"destination must name one object, not a bucket or folder: {url!r}")
    if {"", ".", ".."} & set(key.split("/")):
        raise ValueError(f"destination must not hold an empty name, . or .. between its slashes: {url!r}")
    if _AMBIGUOUS.search(url):
        raise ValueError(f"destination must not hold ?, backslashes or control characters: {url!r}")
    try:
        # Before Airflow 3.2 an argument of None removes the URL's connection; later the URL's wins over the argument.
        in_url, _, bucket = authority.rpartition("@")
        path = ObjectStoragePath(f"{scheme}://{bucket}/{key}", conn_id=conn_id or in_url or None)
        _ = path.fs  # Airflow looks for the provider and the connection only now.
    except (ImportError, ValueError) as error:
        is_missing = isinstance(error, ImportError) or "No filesystem registered" in str(error)
        if scheme not in _EXTRAS or not is_missing:
            raise ValueError(f"destination: {error}") from error
        raise ValueError(
            f"destination: nothing installed can write to {scheme}:// ({error}); "
            f"pip install 'airflow-provider-stripe-identity[{_EXTRAS[scheme]}]'"
        ) from error
    if scheme == "file":
        _check_local(path.path)
    elif len(key.encode()) > _LONGEST_KEY:
        raise ValueError(f"destination: object stores take keys of {_LONGEST_KEY} bytes, this has {len(key.encode())}")
    return path


def _check_local(path: str) -> None:
    """Let the file system judge the name before anything is exported."""
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    except OSError as error:  # a name too long, a file where a folder should be, a folder that nobody may enter
        raise ValueError(f"destination: {error.strerror}: {path!r}") from error
    if is_folder:
        raise ValueError(f"destination must name one object, and {path!r} is a folder")


def check_store(destination: ObjectStoragePath) -> None:
    """
    Find what would keep the object from being written, before anything is read, and leave nothing behind.

    :param destination: what :func:`open_destination` returned
    :raises OSError: naming ``destination`` and what to do; another try may find it repaired
    """
    if destination.protocol != "file":
        check_remote(destination)
        return
    folder = Path(destination.path).parent
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(
            f"destination: the folder {str(folder)!r} cannot be written to.\n"
            "Give the user that runs the task write access, or choose another folder."
        )


def clean_uri(path: ObjectStoragePath) -> str:
    """Return the object's URI without the connection id that Airflow keeps in it."""
    return f"{path.protocol}://{path.path}"


def is_compressed(uri: str) -> bool:
    """Return whether the object's name says that it is compressed with gzip."""
    return uri.lower().endswith(".gz")


def put(finished: IO[bytes], destination: ObjectStoragePath) -> None:
    """
    Copy a finished file to its destination, in one step that others can see.

    Writing to ``destination.open("wb")`` would not do: when an exception passes through it, fsspec's object
    stores keep the part that was written so far as a normal object.

    :param finished: an open file of this machine; it may be one without a name
    :param destination: what :func:`open_destination` returned
    """
    finished.flush()
    finished.seek(0)
    if destination.protocol == "file":
        _put_local(finished, Path(destination.path))
    elif destination.protocol in ("s3", "s3a") and os.fstat(finished.fileno()).st_size <= _LARGEST_S3_REQUEST:
        put_s3(finished, destination)
    else:
        # fsspec uploads in a thread of its own, and goes on when an exception (execution_timeout) leaves this one.
        # The descriptor stays open then, so that its number cannot come to mean another file.
        descriptor = os.dup(finished.fileno())
        destination.fs.put_file(f"/dev/fd/{descriptor}", destination.path)
        os.close(descriptor)


def _put_local(finished: IO[bytes], final: Path) -> None:
    """Copy beside the final place, then rename: on one file system a rename is one step."""
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_what_killed_tries_left(final.parent)
    with _new_file_in(final.parent) as copy:
        try:
            shutil.copyfileobj(finished, copy)
            copy.flush()
            os.fsync(copy.fileno())
            os.replace(copy.name, final)
        except BaseException:
            Path(copy.name).unlink(missing_ok=True)
            raise


def _new_file_in(folder: Path) -> IO[bytes]:
    """Return a new file that is locked, for as long as it is open, against being taken for a left-over."""
    while True:
        file = (folder / f".stripe_identity.{uuid.uuid4().hex}.tmp").open("xb")
        with suppress(OSError):  # Not every network file system can lock. Left-overs stay there.
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # taken for a left-over before it was locked


def _remove_what_killed_tries_left(folder: Path) -> None:
    """The kernel frees a killed process's locks, so what can be locked belongs to nobody."""
    for path in folder.glob(".stripe_identity.*.tmp"):
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()

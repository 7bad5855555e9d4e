"""
What the file systems of the object stores do not offer publicly: their clients are used here, and nowhere else.

Whether a store will take an object is asked, not tried: nothing is written, so nothing can be left behind. Credentials
that may write and not read get "access denied" as a response, which says nothing and is passed over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import IO, TYPE_CHECKING, Any, TypeVar

from airflow_provider_stripe_identity._airflow.version_compat import connection_of_store

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

#: With these versions everything here was seen to work; a test fails when the pinned ones move.
VERIFIED_WITH = {"fsspec": "2026.9.0", "s3fs": "2026.9.0", "gcsfs": "2026.10.1", "adlfs": "2026.8.0"}

#: Codes of Amazon S3 (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html) and of Azure Blob
#: (https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes).
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_WRONG_CREDENTIALS = frozenset(
    {
        "AuthenticationFailed",
        "AuthorizationFailure",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidAuthenticationInfo",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_WRONG_REGION = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect"})

_T = TypeVar("_T")


def check_remote(destination: ObjectStoragePath) -> None:
    """
    Ask the store about the object, and find what would keep it from being written.

    :raises OSError: naming ``destination`` and what to do; another try may find it repaired
    """
    ask = {"s3": _ask_s3, "s3a": _ask_s3, "gs": _ask_gcs, "gcs": _ask_gcs, "abfs": _ask_azure, "abfss": _ask_azure}.get(
        str(destination.protocol)
    )
    if ask is None:
        return
    bucket = destination.path.partition("/")[0]
    connection = connection_of_store(destination)
    where = f"connection {connection!r}" if connection else "the environment's credentials"
    problem: OSError | None = None
    try:
        code = ask(destination)
    except OSError as error:
        problem = ConnectionError(f"destination: the object store did not answer ({type(error).__name__}).\n{_CHECK}")
    except Exception as error:
        if not _is_of_a_client(error):
            raise
        problem = PermissionError(
            f"destination: {where} cannot reach the object store ({type(error).__name__}).\n{_CHECK}"
        )
    else:
        if code in _NO_BUCKET:
            problem = FileNotFoundError(
                f"destination: the bucket or container {bucket!r} does not exist.\nCreate it, or correct the URL."
            )
        elif code in _WRONG_CREDENTIALS:
            problem = PermissionError(f"destination: the object store refuses {where} ({code}).\n{_CHECK}")
        elif code in _WRONG_REGION:
            problem = PermissionError(
                f"destination: the bucket {bucket!r} is in another region ({code}).\nSet region_name in {where}."
            )
    if problem:
        raise problem  # out here, so that no traceback shows the client's own error once more


_CHECK = "Check the key, the secret and the endpoint in the connection of the object store."


def _is_of_a_client(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in ("aiohttp", "azure", "botocore", "gcsfs", "google")


def put_s3(finished: IO[bytes], destination: ObjectStoragePath) -> None:
    """
    Upload in one request: a multipart upload would stay pending when the process is killed.

    This asks s3fs's client and not s3fs, whose own retries would send a file from where the last try stopped reading
    it; the client's begin at the start.
    """

    async def put(client: Any, bucket: str, key: str) -> None:
        await client.put_object(Bucket=bucket, Key=key, Body=finished)

    _with_s3(destination, put)
    destination.fs.invalidate_cache()


def _with_s3(destination: ObjectStoragePath, call: Callable[[Any, str, str], Awaitable[_T]]) -> _T:
    from fsspec.asyn import sync  # type: ignore[import-untyped]

    fs = destination.fs
    bucket, key, _ = fs.split_path(destination.path)

    async def with_client() -> _T:
        await fs.set_session()
        return await call(await fs.get_s3(bucket), bucket, key)

    answer: _T = sync(fs.loop, with_client)
    return answer


def _ask_s3(destination: ObjectStoragePath) -> str | None:
    """Ask for one byte: the response to HEAD has no code, and so would not tell a bucket from a key."""
    from botocore.exceptions import ClientError  # type: ignore[import-not-found]

    async def ask(client: Any, bucket: str, key: str) -> str | None:
        try:
            answer = await client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")
        except ClientError as error:
            return str(error.response.get("Error", {}).get("Code"))
        answer["Body"].close()
        return None

    return _with_s3(destination, ask)


def _ask_gcs(destination: ObjectStoragePath) -> str | None:
    """Ask for the bucket: gcsfs's error for a missing object does not tell it from a missing bucket."""
    from gcsfs.retry import HttpError  # type: ignore[import-not-found]

    try:
        destination.fs.call("GET", "b/{}", destination.path.partition("/")[0], fields="name")
    except FileNotFoundError:
        return "NoSuchBucket"
    except HttpError as error:
        return "AuthenticationFailed" if error.code == 401 else None
    except OSError as error:
        if not str(error).startswith("Forbidden"):  # writing objects does not include reading the bucket
            raise
    return None


def _ask_azure(destination: ObjectStoragePath) -> str | None:
    from azure.core.exceptions import HttpResponseError  # type: ignore[import-not-found]
    from fsspec.asyn import sync

    fs = destination.fs
    container, _, key = destination.path.partition("/")

    async def ask() -> str | None:
        try:
            async with fs.service_client.get_blob_client(container, key) as blob:
                await blob.get_blob_properties()
        except HttpResponseError as error:
            return str(getattr(error.error_code, "value", error.error_code))
        return None

    code: str | None = sync(fs.loop, ask)
    return code

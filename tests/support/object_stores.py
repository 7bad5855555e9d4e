"""Object stores on loopback, each behind one interface: how it starts, its connection, and what lies in it.

What lies in a store is read with the store's own client, not with the file systems that the package writes with.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import boto3
import fsspec
import pytest
import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from botocore.config import Config

BIN = Path(sys.executable).parent
AZURITE = BIN.parent / "node_modules" / ".bin" / "azurite-blob"
SECRET = "marked-store-secret"
BUCKET = "lake"
MAY_1 = datetime(2026, 5, 1, tzinfo=UTC)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command: list[Any], port: int, log: Path, **environment: str) -> Iterator[None]:
    """Run a server until the block ends; it is up when its port answers."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [str(word) for word in command], stdout=output, stderr=output, env={**os.environ, **environment}
        ) as process,
    ):
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            yield
        finally:
            process.kill()


class LocalFiles:
    """A folder of this machine."""

    scheme: ClassVar[str] = "file"

    @contextlib.contextmanager
    def started(self, folder: Path) -> Iterator["LocalFiles"]:
        self.folder = folder / BUCKET
        self.folder.mkdir()
        yield self

    def url(self, key: str, conn_id: str = "") -> str:
        return f"file://{conn_id and conn_id + '@'}{self.folder}/{key}"

    def read(self, key: str) -> bytes | None:
        path = self.folder / key
        return path.read_bytes() if path.exists() else None

    def left_overs(self) -> list[str]:
        """What is neither an old object nor a new one."""
        return [str(path) for path in self.folder.rglob("*.tmp")]

    def empty(self) -> None:
        shutil.rmtree(self.folder)
        self.folder.mkdir()


class Server:
    """An object store that answers HTTP on a port of loopback."""

    scheme: ClassVar[str]
    port: int

    def url(self, key: str, conn_id: str = "lake_store", bucket: str = BUCKET) -> str:
        return f"{self.scheme}://{conn_id and conn_id + '@'}{bucket}/{key}"

    def connection(self, port: int | None = None, secret: str = SECRET) -> str:
        """Return the Airflow connection as JSON, to a proxy's port when one is given."""
        return json.dumps(self._connection(port or self.port, secret))

    def _connection(self, port: int, secret: str) -> dict[str, Any]:
        raise NotImplementedError

    def left_overs(self) -> list[str]:
        return []


class S3(Server):
    scheme = "s3"
    login = "marked-access-key"
    client: Any

    def _connection(self, port: int, secret: str) -> dict[str, Any]:
        return {
            "conn_type": "aws",
            "login": self.login,
            "password": secret,
            "extra": {
                "endpoint_url": f"http://127.0.0.1:{port}",
                "region_name": "us-east-1",
                "config_kwargs": {"response_checksum_validation": "when_required"},
            },
        }

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=self.login,
            aws_secret_access_key=SECRET,
            config=Config(response_checksum_validation="when_required", s3={"addressing_style": "path"}),
        )

    def read(self, key: str) -> bytes | None:
        try:
            return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None

    def left_overs(self) -> list[str]:
        """Multipart uploads that were neither completed nor aborted."""
        try:
            pending = self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        except self.client.exceptions.NoSuchUpload:  # rclone, while there was none yet
            return []
        return [upload["Key"] for upload in pending]


class Rclone(S3):
    @contextlib.contextmanager
    def started(self, folder: Path) -> Iterator["Rclone"]:
        self.port = free_port()
        command = [BIN / "rclone", "serve", "s3", "--addr", f"127.0.0.1:{self.port}"]
        command += ["--auth-key", f"{self.login},{SECRET}", "--vfs-cache-mode", "off", folder]
        (folder / BUCKET).mkdir()
        with running(command, self.port, folder.with_suffix(".log"), RCLONE_CONFIG="/dev/null"):
            self.client = self._client()
            yield self


class Moto(S3):
    @contextlib.contextmanager
    def started(self, folder: Path) -> Iterator["Moto"]:
        self.port = free_port()
        command = [BIN / "moto_server", "-H", "127.0.0.1", "-p", self.port]
        with running(command, self.port, folder.with_suffix(".log")):
            self.client = self._client()
            self.client.create_bucket(Bucket=BUCKET)
            yield self


class Azurite(Server):
    scheme = "abfs"
    account = "lakeaccount"
    key = "bWFya2VkLXN0b3JlLXNlY3JldA=="  # base64 of "marked-store-secret"

    @contextlib.contextmanager
    def started(self, folder: Path) -> Iterator["Azurite"]:
        self.port = free_port()
        command = [AZURITE, "--blobHost", "127.0.0.1", "--blobPort", self.port]
        command += ["--location", folder, "--skipApiVersionCheck", "--silent"]
        accounts = f"{self.account}:{self.key}"
        with running(command, self.port, folder.with_suffix(".log"), AZURITE_ACCOUNTS=accounts):
            self.connection_string = self._connection_string(self.port, self.key)
            self.client = BlobServiceClient.from_connection_string(self.connection_string)
            self.client.create_container(BUCKET)
            yield self

    def _connection_string(self, port: int, key: str) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={key};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{self.account};"
        )

    def _connection(self, port: int, secret: str) -> dict[str, Any]:
        key = self.key if secret == SECRET else "d3JvbmctbWFya2VkLXNlY3JldA=="  # base64 of "wrong-marked-secret"
        return {"conn_type": "wasb", "extra": {"connection_string": self._connection_string(port, key)}}

    def read(self, key: str) -> bytes | None:
        try:
            return self.client.get_blob_client(BUCKET, key).download_blob().readall()
        except ResourceNotFoundError:
            return None


class GcsEmulator(Server):
    scheme = "gs"

    @contextlib.contextmanager
    def started(self, folder: Path) -> Iterator["GcsEmulator"]:
        self.port = free_port()
        command = [BIN / "gcp-storage-emulator", "start", "--in-memory", "--host", "127.0.0.1", "--port", self.port]
        with running(command, self.port, folder.with_suffix(".log")):
            self.base = f"http://127.0.0.1:{self.port}/storage/v1/b"
            requests.post(self.base, json={"name": BUCKET}, timeout=10).raise_for_status()
            yield self

    def _connection(self, port: int, secret: str) -> dict[str, Any]:
        extra = {"is_anonymous": True, "project": "lake", "gcs.endpoint": f"http://127.0.0.1:{port}"}
        return {"conn_type": "google_cloud_platform", "extra": extra}

    def read(self, key: str) -> bytes | None:
        name = quote(key, safe="")
        answer = requests.get(f"{self.base}/{BUCKET}/o/{name}", params={"alt": "media"}, timeout=30)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.content


STORES: dict[str, Any] = {"local": LocalFiles, "rclone": Rclone, "moto": Moto, "azurite": Azurite, "gcs": GcsEmulator}


def connect(store: Any, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> Any:
    """Make ``lake_store`` the store's connection. Airflow and fsspec keep file systems: forget them."""
    from airflow.sdk.io import store as kept

    monkeypatch.setattr(kept, "_STORE_CACHE", {})
    fsspec.get_filesystem_class(store.scheme).clear_instance_cache()
    if hasattr(store, "connection"):
        monkeypatch.setenv("AIRFLOW_CONN_LAKE_STORE", store.connection(**arguments))
    return store

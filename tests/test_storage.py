"""An object appears whole or not at all, and nothing else stays behind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from airflow_provider_stripe_identity import storage
from airflow_provider_stripe_identity.storage import clean_uri, open_destination, put


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished local file with private permissions, as a temporary file has."""
    path = tmp_path / "spool"
    path.write_bytes(b"new\n" * 100_000)
    path.chmod(0o600)
    return path


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_local_object_is_written_with_its_folders_and_replaced(tmp_path, finished):
    lake = tmp_path / "lake"
    destination = open_destination(f"file://{lake}/dt=2026-01-01/sessions.jsonl")
    put(finished, destination)
    finished.write_bytes(b"newer")
    put(finished, destination)
    assert (lake / "dt=2026-01-01/sessions.jsonl").read_bytes() == b"newer"
    assert listing(lake) == ["dt=2026-01-01/sessions.jsonl"]


def test_who_has_the_old_object_open_sees_the_old_one_whole(tmp_path, finished):
    """The new one takes its place, instead of its content."""
    destination = open_destination(f"file://{tmp_path}/lake/object")
    put(finished, destination)
    with (tmp_path / "lake/object").open("rb") as reader:
        finished.write_bytes(b"new and short")
        put(finished, destination)
        assert reader.read() == b"new\n" * 100_000


def test_a_local_object_is_readable_to_whom_the_umask_allows(tmp_path, finished):
    destination = open_destination(f"file://{tmp_path}/lake/object")
    before = os.umask(0o022)
    try:
        put(finished, destination)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "lake/object").stat().st_mode) == 0o644


@pytest.mark.parametrize("broken", ["copyfileobj", "fsync"])
def test_a_failure_leaves_the_old_object_and_nothing_else(tmp_path, finished, monkeypatch, broken):
    destination = open_destination(f"file://{tmp_path}/lake/object")
    put(finished, destination)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.shutil if broken == "copyfileobj" else storage.os, broken, full)
    finished.write_bytes(b"never seen")
    with pytest.raises(OSError, match="No space left"):
        put(finished, destination)
    assert (tmp_path / "lake/object").read_bytes() == b"new\n" * 100_000
    assert listing(tmp_path / "lake") == ["object"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("/data/object", "must be a URL"),
        ("", "must be a URL"),
        ("s3://bucket", "one object"),
        ("s3://bucket/", "one object"),
        ("s3://bucket/folder/", "one object"),
        ("file://data/object", "three slashes"),
        ("nosuch://bucket/key", "filesystem.* '?nosuch"),
    ],
)
def test_a_destination_that_names_no_object_is_refused(url, why):
    with pytest.raises(ValueError, match=f"destination.*{why}"):
        open_destination(url)


@pytest.mark.parametrize(("scheme", "extra"), [("gs", "google"), ("abfs", "microsoft")])
def test_a_missing_file_system_is_told_with_what_to_install(scheme, extra):
    """Neither of these providers is among the test dependencies."""
    with pytest.raises(ValueError, match=rf"pip install 'airflow-provider-stripe-identity\[{extra}\]'"):
        open_destination(f"{scheme}://bucket/key")


def test_a_uri_holds_no_connection_id(tmp_path):
    destination = open_destination(f"file://{tmp_path}/object")
    assert clean_uri(destination) == f"file://{tmp_path}/object"

"""An object appears whole or not at all, and nothing else stays behind."""

from __future__ import annotations

import errno
import fcntl
import io
import multiprocessing
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from airflow.sdk.io.store import attach
from fsspec.implementations.memory import MemoryFileSystem
from support.full_disk import full_disk

from airflow_provider_stripe_identity._airflow.version_compat import connection_of_store
from airflow_provider_stripe_identity._export import storage
from airflow_provider_stripe_identity._export.storage import clean_uri, open_destination, put


@pytest.fixture
def finished() -> Iterator[IO[bytes]]:
    """A finished file without a name, written to its end."""
    with tempfile.TemporaryFile() as file:
        file.write(b"new\n" * 100_000)
        yield file


def overwrite(file: IO[bytes], content: bytes) -> None:
    file.seek(0)
    file.truncate()
    file.write(content)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("url", "argument", "connection"),
    [
        ("s3://of_url@bucket/key", None, "of_url"),
        ("s3://bucket/key", "of_argument", "of_argument"),
        ("s3://of_url@bucket/key", "of_argument", "of_argument"),
    ],
)
def test_the_connection_is_the_arguments_else_the_urls(url, argument, connection):
    for name in ("of_url", "of_argument"):
        attach("s3", name, fs=MemoryFileSystem(skip_instance_cache=True))
    destination = open_destination(url, argument)
    assert destination.fs is attach("s3", connection).fs
    assert connection_of_store(destination) == connection
    assert clean_uri(destination) == "s3://bucket/key"


def test_a_local_object_is_written_with_its_folders_and_replaced(tmp_path, finished):
    lake = tmp_path / "lake"
    destination = open_destination(f"file://{lake}/dt=2026-01-01/sessions.jsonl")
    put(finished, destination)
    overwrite(finished, b"newer")
    put(finished, destination)
    assert (lake / "dt=2026-01-01/sessions.jsonl").read_bytes() == b"newer"
    assert listing(lake) == ["dt=2026-01-01/sessions.jsonl"]


def test_who_has_the_old_object_open_sees_the_old_one_whole(tmp_path, finished):
    """The new one takes its place, instead of its content."""
    destination = open_destination(f"file://{tmp_path}/lake/object")
    put(finished, destination)
    with (tmp_path / "lake/object").open("rb") as reader:
        overwrite(finished, b"new and short")
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
    overwrite(finished, b"never seen")
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
        ("file:///data/../object", r"\. or \.\."),
        ("file:///data/./object", r"\. or \.\."),
        ("s3://bucket/../object", r"\. or \.\."),
        ("s3://bucket/key?versionId=1", "must not hold \\?"),
        ("file:///data/a\nb", "control characters"),
        ("file:///data/a\x00b", "control characters"),
        ("file:///data/a\\b", "backslashes"),
        ("file:////data/object", "empty name"),
        ("s3://bucket/dt=1//object", "empty name"),
        ("file:///tmp", "is a folder"),
        ("file:///dev/null/object", "Not a directory"),
        ("file:///" + "x" * 256, "File name too long"),
    ],
)
def test_a_destination_that_names_no_object_is_refused(url, why):
    with pytest.raises(ValueError, match=f"destination.*{why}"):
        open_destination(url)


def test_a_disk_that_is_full_leaves_the_old_object_and_nothing_else(tmp_path):
    destination = open_destination(f"file://{tmp_path}/lake/object")
    put(io.BytesIO(b"old"), destination)
    with full_disk(), pytest.raises(OSError, match="File too large") as caught:
        put(io.BytesIO(b"never seen" * 100_000), destination)
    assert caught.value.errno == errno.EFBIG
    assert (tmp_path / "lake/object").read_bytes() == b"old"
    assert listing(tmp_path / "lake") == ["object"]


def test_what_a_killed_try_left_is_removed_and_what_a_try_writes_is_not(tmp_path, finished):
    """The lock tells them apart: the kernel frees it when the process ends, however it ends."""
    killed, at_work = (tmp_path / f".stripe_identity.{name}.tmp" for name in ("killed", "at_work"))
    killed.write_bytes(b"half")
    with at_work.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        put(finished, open_destination(f"file://{tmp_path}/object"))
    assert listing(tmp_path) == [at_work.name, "object"]


def _put_often(url: str, letter: bytes) -> None:
    for _ in range(100):
        put(io.BytesIO(letter * 100_000), open_destination(url))


def test_tries_at_the_same_time_do_not_disturb_each_other(tmp_path):
    """As of a task that Airflow took for dead and started again."""
    processes = multiprocessing.get_context("fork")
    tries = [
        processes.Process(target=_put_often, args=(f"file://{tmp_path}/object", letter))
        for letter in (b"a", b"b", b"c")
    ]
    for process in tries:
        process.start()
    while any(process.is_alive() for process in tries):
        if (tmp_path / "object").exists():
            content = (tmp_path / "object").read_bytes()
            assert len(content) == 100_000
            assert len(set(content)) == 1
    for process in tries:
        process.join()
    assert [process.exitcode for process in tries] == [0, 0, 0]
    assert listing(tmp_path) == ["object"]


def test_a_file_that_was_taken_for_a_left_over_before_it_was_locked_is_made_again(tmp_path, finished, monkeypatch):
    flock = fcntl.flock
    removed: list[str] = []

    def late(file, how):
        if not removed:
            removed.append(file.name)
            Path(file.name).unlink()
        flock(file, how)

    monkeypatch.setattr(storage.fcntl, "flock", late)
    put(finished, open_destination(f"file://{tmp_path}/object"))
    assert removed
    assert listing(tmp_path) == ["object"]


def test_a_file_system_without_locks_is_written_to(tmp_path, finished, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(storage.fcntl, "flock", no_locks)
    (tmp_path / ".stripe_identity.left.tmp").touch()
    put(finished, open_destination(f"file://{tmp_path}/object"))
    assert listing(tmp_path) == [".stripe_identity.left.tmp", "object"]


def test_a_local_name_may_be_as_long_as_the_file_system_allows(tmp_path, finished):
    put(finished, open_destination(f"file://{tmp_path}/{'x' * 255}"))
    assert listing(tmp_path) == ["x" * 255]


def test_a_key_longer_than_object_stores_take_is_refused(monkeypatch):
    monkeypatch.setattr("airflow.sdk.ObjectStoragePath.fs", None)
    open_destination("s3://bucket/" + "ä" * 512)
    with pytest.raises(ValueError, match="destination: object stores take keys of 1024 bytes, this has 1026"):
        open_destination("s3://bucket/" + "ä" * 513)


@pytest.mark.parametrize(("scheme", "extra"), [("gs", "google"), ("abfs", "microsoft")])
def test_a_missing_file_system_is_told_with_what_to_install(scheme, extra):
    """Neither of these providers is among the test dependencies."""
    with pytest.raises(ValueError, match=rf"pip install 'airflow-provider-stripe-identity\[{extra}\]'"):
        open_destination(f"{scheme}://bucket/key")


def test_a_uri_holds_no_connection_id(tmp_path):
    destination = open_destination(f"file://{tmp_path}/object")
    assert clean_uri(destination) == f"file://{tmp_path}/object"

"""Whatever happens to an upload, the store holds the old object or the new one, and nothing half-made."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator

import fsspec.asyn
import pytest
from support.object_stores import MAY_1, STORES, connect

from airflow_provider_stripe_identity._export import storage
from airflow_provider_stripe_identity.operators import export as operators

# The emulator of GCS is left out: it keeps what it got of a request that was cut, which no real store does.
CUT = ["rclone", "moto", "azurite"]
FAULTS = 25
SEED = random.randrange(2**32)


class CuttingProxy:
    """A TCP proxy in front of a store, which cuts connections after so many bytes to the store."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.sent = 0
        self.cut_at: list[int] = []
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, *after: int) -> None:
        """Cut at these numbers of bytes, each counted from the cut before, and let all else through."""
        self.sent, self.cuts, self.cut_at = 0, 0, list(after)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                store = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self._to_store, args=(client, store), daemon=True).start()
                threading.Thread(target=self._to_client, args=(store, client), daemon=True).start()

    def _to_store(self, client: socket.socket, store: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.cut_at and self.sent + len(data) >= self.cut_at[0]:
                    store.sendall(data[: self.cut_at[0] - self.sent])
                    self.cut_at.pop(0)
                    self.sent = 0
                    self.cuts += 1
                    break
                self.sent += len(data)
                store.sendall(data)
        for end in (store, client):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    @staticmethod
    def _to_client(store: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := store.recv(65536):
                client.sendall(data)


@pytest.fixture(params=CUT)
def cut_store(request, started, monkeypatch) -> Iterator[tuple]:
    store = started(request.param)
    proxy = CuttingProxy(store.port)
    yield connect(store, monkeypatch, port=proxy.port), proxy
    proxy.close()


@pytest.fixture
def no_pauses(monkeypatch):
    """The clients' retries without their pauses."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _delay, *result: sleep(0, *result))


@pytest.fixture
def big_sessions(server):
    """An object of some megabytes."""
    noise = random.Random(7)
    for _ in range(100):
        metadata = {f"note_{n}": noise.randbytes(250).hex() for n in range(50)}
        server.create_session(created=MAY_1, metadata=metadata)


def test_a_connection_cut_at_any_byte_leaves_the_old_object_or_the_new_one(
    big_sessions, cut_store, export, truth, no_pauses, tell
):
    store, proxy = cut_store
    key, size = "cut.jsonl", len(truth())
    moments = random.Random(SEED)
    old = truth(extra_columns={"_n": -1})
    export(store.url(key), extra_columns={"_n": -1})
    failed = 0
    for n in range(FAULTS):
        new = truth(extra_columns={"_n": n})
        # Cut ever more often in a row: first the client's own retries heal it, later the export fails.
        proxy.cut(*(moments.randrange(size) for _ in range(n + 1)))
        try:
            export(store.url(key), extra_columns={"_n": n})
        except Exception:
            assert store.read(key) in (old, new), (SEED, n)
            failed += 1
            proxy.cut()
            export(store.url(key), extra_columns={"_n": n})
        else:
            assert proxy.cuts, (SEED, n)
        assert store.read(key) == new, (SEED, n)
        assert store.left_overs() == [], (SEED, n)
        old = new
    assert 0 < failed < FAULTS
    tell(f"{type(store).__name__}: {FAULTS} uploads of {size:,} bytes cut at random bytes, {failed} of them failed")


@pytest.fixture(params=["rclone", "moto"])
def s3(request, started, monkeypatch):
    return connect(started(request.param), monkeypatch)


def test_pending_uploads_are_seen_by_these_tests(s3):
    upload = s3.client.create_multipart_upload(Bucket="lake", Key="pending")["UploadId"]
    assert s3.left_overs() == ["pending"]
    s3.client.abort_multipart_upload(Bucket="lake", Key="pending", UploadId=upload)
    assert s3.left_overs() == []


def test_an_object_too_large_for_one_request_is_uploaded_in_parts(s3, monkeypatch, tmp_path):
    """S3 takes 5 GiB at once. Here the limit is lower, and the object large enough for s3fs to send parts."""
    methods = []
    s3.client.put_object(Bucket="lake", Key="large", Body=b"old")
    monkeypatch.setattr(storage, "_LARGEST_S3_REQUEST", 1000)
    destination = storage.open_destination(s3.url("large"))
    call = type(destination.fs)._call_s3
    monkeypatch.setattr(
        type(destination.fs),
        "_call_s3",
        lambda fs, name, *args, **kw: methods.append(name) or call(fs, name, *args, **kw),
    )
    with (tmp_path / "large").open("w+b") as finished:
        finished.truncate(101 * 2**20)
        finished.write(b"new")
        storage.put(finished, destination)
    assert methods.count("create_multipart_upload") == methods.count("complete_multipart_upload") == 1
    answer = s3.client.head_object(Bucket="lake", Key="large")
    assert answer["ContentLength"] == 101 * 2**20
    assert s3.left_overs() == []


class OutOfTime(BaseException):
    """What Airflow's AirflowTaskTimeout is: no Exception."""


@pytest.fixture
def out_of_time_on_signal():
    def raise_it(*_):
        raise OutOfTime

    before = signal.signal(signal.SIGUSR1, raise_it)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("name", STORES)
def test_a_timeout_at_any_moment_leaves_the_old_object_or_the_new_one(
    big_sessions, started, export, truth, monkeypatch, tell, out_of_time_on_signal, name
):
    """Airflow raises at any line of the task's thread, while fsspec uploads in its own."""
    store = connect(started(name), monkeypatch)
    url = store.url("late.jsonl", "" if name == "local" else "lake_store")
    moments = random.Random(SEED)
    put_seconds = []

    def timed_put(finished, destination):
        begun = time.monotonic()
        storage.put(finished, destination)
        put_seconds.append(time.monotonic() - begun)

    def late_put(finished, destination):
        strike = threading.Timer(moments.uniform(0, 1.2 * put_seconds[-1]), os.kill, (os.getpid(), signal.SIGUSR1))
        strike.start()
        try:
            storage.put(finished, destination)
        finally:
            strike.cancel()
            strike.join()

    old = truth(extra_columns={"_n": -1})
    late = 0
    for n in range(-1, FAULTS):
        new = truth(extra_columns={"_n": n})
        if put_seconds:
            monkeypatch.setattr(operators, "put", late_put)
            try:
                export(url, extra_columns={"_n": n})
            except OutOfTime:
                late += 1
            uploads_end()
            assert store.read("late.jsonl") in (old, new), (SEED, n)
        monkeypatch.setattr(operators, "put", timed_put)
        export(url, extra_columns={"_n": n})
        assert store.read("late.jsonl") == new, (SEED, n)
        assert store.left_overs() == [], (SEED, n)
        old = new
    assert late
    tell(f"{type(store).__name__}: {late} timeouts raised at random moments of an upload of {len(old):,} bytes")


def uploads_end():
    """Wait for what an interrupted task left running in fsspec's thread. A task's process would end instead."""
    loop = fsspec.asyn.get_loop()

    async def end():
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 60)

    asyncio.run_coroutine_threadsafe(end(), loop).result()

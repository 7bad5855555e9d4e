"""One rate for all processes of a machine, and no process that is held up or fails because of it."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_stripe_identity._stripe_api import rate_limiter, shared_turns
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity._stripe_api.rate_limiter import RateLimiter
from airflow_provider_stripe_identity._stripe_api.shared_turns import SharedTurns

#: As long as no test takes: a turn that is taken is seen for as long.
LONG = 10_000.0
HOLDS_THE_LOCK = """
import fcntl, sys, time
with open(sys.argv[1], "r+b") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("locked", flush=True)
    time.sleep(600)
"""

TAKES_TURNS = """
from airflow_provider_stripe_identity._stripe_api.shared_turns import SharedTurns
one = SharedTurns("sk_test_shared", "https://api.stripe.com", "acct_1")
print("ready", flush=True)
for _ in range(20):
    print(one.take(5, 0.2, 0.0))
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shared_turns._own_folder.cache_clear()
    return tmp_path


def made() -> SharedTurns:
    return SharedTurns("sk_test_shared", "https://api.stripe.com", "acct_1")


def the_file(temporary: Path) -> Path:
    (path,) = temporary.glob("stripe-identity-*/*")
    return path


def test_no_period_holds_more_than_the_rate_in_all_threads_and_processes(temporary):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TAKES_TURNS], env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout.readline() == b"ready\n"
    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(made().take, 5, 0.2, 0.0) for _ in range(40)]
        moments = [one.result() or 0.0 for one in found]
    for process in started:
        moments += map(float, process.communicate()[0].split())
    assert len(moments) == 80
    moments.sort()
    assert all(late - early >= 0.2 for early, late in zip(moments, moments[5:], strict=False))


def test_what_one_has_taken_another_waits_for():
    made().take(2, LONG, 0.0)
    assert made().seconds_until_turn(2, LONG) == 0
    made().take(2, LONG, 0.0)
    assert 0 < made().seconds_until_turn(2, LONG) <= LONG


def test_a_request_counts_from_when_it_arrived():
    one = made()
    latest = one.take(1, LONG, 0.05)
    assert latest is not None
    before = one.seconds_until_turn(1, LONG)
    one.arrived(latest, latest - 0.04)
    assert 0 < one.seconds_until_turn(1, LONG) <= before - 0.04


@pytest.mark.parametrize(
    "other",
    [("sk_test_other", "https://api.stripe.com", "acct_1"), ("sk_test_shared", "https://api.stripe.com", "acct_2")],
)
def test_another_key_or_account_has_its_own(other):
    made().take(1, LONG, 0.0)
    assert SharedTurns(*other).seconds_until_turn(1, LONG) == 0


def test_the_file_is_private_and_says_nothing(temporary):
    made().take(1, 1, 0.0)
    path = the_file(temporary)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert path.stat().st_size == 8 * shared_turns.KEPT
    for said in ("sk_test", "shared", "stripe.com", "acct"):
        assert said not in path.name
        assert said.encode() not in path.read_bytes()


@given(content=st.binary(max_size=1_000) | st.lists(st.floats(), max_size=99).map(lambda n: shared_turns.array("d", n)))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_the_file_holds_nobody_up_for_longer_than_a_period(temporary, content):
    made().take(20, 1, 0.0)
    the_file(temporary).write_bytes(bytes(content))
    one = made()
    assert one.seconds_until_turn(20, 1) <= 1 + shared_turns.MAX_AHEAD
    assert one.seconds_until_turn(1, 0.001) <= 0.001 + shared_turns.MAX_AHEAD, "or the next line would wait"
    assert one.take(1, 0.001, 0.0) is not None
    assert one.seconds_until_turn(1, LONG) > 0, "it is in use again"


def test_times_of_another_boot_are_forgotten(temporary):
    one = made()
    one.take(1, 1, 0.0)
    the_file(temporary).write_bytes(shared_turns.array("d", [time.monotonic() + 1_000_000] * 100).tobytes())
    assert one.seconds_until_turn(1, 1) == 0


@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_deleted_file_is_made_again(temporary, whole_folder):
    one = made()
    one.take(1, LONG, 0.0)
    if whole_folder:
        shutil.rmtree(the_file(temporary).parent)
    else:
        the_file(temporary).unlink()
    assert one.take(1, LONG, 0.0) is not None
    assert made().seconds_until_turn(1, LONG) > 0


def test_files_that_nobody_uses_are_deleted(temporary):
    made().take(1, LONG, 0.0)
    os.utime(the_file(temporary), (0, 0))
    shared_turns._own_folder.cache_clear()  # as in the next process
    SharedTurns("sk_test_other").take(1, 1, 0.0)
    assert made()._name not in os.listdir(the_file(temporary).parent)


def as_a_file(folder: Path) -> None:
    folder.write_text("")


def open_to_others(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)


def as_a_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


def with_a_link_in_it(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / made()._name).symlink_to(folder.parent / "victim")


def with_a_folder_in_it(folder: Path) -> None:
    (folder / made()._name).mkdir(parents=True)
    folder.chmod(0o700)


@pytest.mark.parametrize("place", [as_a_file, open_to_others, as_a_link, with_a_link_in_it, with_a_folder_in_it])
def test_a_place_that_cannot_be_used_is_logged_once(temporary, caplog, place):
    place(temporary / f"stripe-identity-{os.geteuid()}")
    with caplog.at_level(logging.INFO):
        goes_on_without(made())
    assert len(caplog.records) == 1
    assert not (temporary / "victim").exists()


@pytest.mark.parametrize("call", ["os.mkdir", "os.open", "os.pread", "os.pwrite", "fcntl.flock"])
def test_an_error_of_the_system_is_logged_once(temporary, caplog, monkeypatch, call):
    """A full disk, a folder that is read-only, a file system without locks."""

    def fail(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(call, fail)
    with caplog.at_level(logging.INFO):
        goes_on_without(made())
    assert "Other processes with this API key are not taken into account" in caplog.text
    assert len(caplog.records) == 1


def goes_on_without(one: SharedTurns) -> None:
    for _ in range(3):
        assert one.seconds_until_turn(1, LONG) == 0
        assert one.take(1, LONG, 0.0) is None
    with RateLimiter(20, shared=one).turn():
        pass


def test_a_lock_ends_with_the_process_that_is_killed(temporary, monkeypatch):
    monkeypatch.setattr(shared_turns, "MAX_LOCKED", 60.0)
    one = made()
    one.take(5, 0.001, 0.0)
    with holder(the_file(temporary)) as process, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.take, 5, 0.001, 0.0)
        process.send_signal(signal.SIGKILL)
        assert waiting.result(60) is not None


def test_a_lock_that_is_not_given_up_is_not_waited_for(temporary, monkeypatch, caplog):
    monkeypatch.setattr(shared_turns, "MAX_LOCKED", 0.05)
    one = made()
    one.take(5, 0.001, 0.0)
    with holder(the_file(temporary)) as process, caplog.at_level(logging.INFO):
        goes_on_without_locks = one.take(5, 0.001, 0.0)
        process.kill()
    assert goes_on_without_locks is None
    assert len(caplog.records) == 1


def holder(path: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLDS_THE_LOCK, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    return process


def test_clients_of_one_key_share_their_rate(server):
    def client(key: str, **more) -> StripeIdentityClient:
        return StripeIdentityClient(key, base_url=server.url, max_requests_per_second=0.001, **more)

    client(server.api_key).get("/v1/identity/verification_sessions")
    assert client(server.api_key).seconds_until_turn() > 0
    assert client(server.api_key, stripe_account="acct_1").seconds_until_turn() == 0
    assert client("sk_test_other").seconds_until_turn() == 0


def test_a_rate_beyond_stripes_is_a_matter_of_the_process(server, temporary):
    client = StripeIdentityClient(server.api_key, base_url=server.url, max_requests_per_second=101)
    client.get("/v1/identity/verification_sessions")
    assert not list(temporary.glob("stripe-identity-*"))


def test_turns_are_corrected_once_a_request_has_ended(monkeypatch):
    """Until then each is taken to arrive as late as it may, and fewer fit into a second."""
    monkeypatch.setattr(rate_limiter, "MAX_DELAY", 1_000)
    monkeypatch.setattr(shared_turns, "MAX_AHEAD", 2_000)
    one = made()
    limiter = RateLimiter(0.001, shared=one)
    with limiter.turn():
        assert one.seconds_until_turn(1, LONG) > LONG
    assert one.seconds_until_turn(1, LONG) < LONG

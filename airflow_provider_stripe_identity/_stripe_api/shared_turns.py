"""
One rate for all processes of this machine that use a key: each Airflow task is a process of its own.

A small file holds when the last requests arrived. A process that wants to send one locks the file, looks whether the
last second leaves room, and adds its own. The lock ends with the process, a killed one too, and nothing is reserved
for later, so none holds up the others.

The file says nothing but times. Whatever is in it delays no request by more than a period, and where it cannot be used,
each process goes by its own rate and by the 429s that it gets.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import hmac
import logging
import os
import stat
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

log = logging.getLogger(__name__)

#: So many arrivals are kept: enough for all rates up to that, and Stripe allows no account more in a second.
KEPT = 100
#: No arrival lies further ahead than this, in seconds. One that does is of another clock, such as that before a reboot.
MAX_AHEAD = 0.1
#: How long the lock is waited for, in seconds: it is held for some microseconds.
MAX_LOCKED = 1.0


class SharedTurns:
    """
    Lets requests through at a rate that all processes share.

    :param api_key: whose rate it is; the file's name has a hash that it is the key of, and no part of it
    :param identity: what else has a rate of its own: the host, the account
    """

    def __init__(self, api_key: str, *identity: str) -> None:
        digest = hmac.new(api_key.encode(), "\n".join(identity).encode(), hashlib.sha256).hexdigest()
        self._name = digest[:32]
        self._usable = True
        self._giving_up = threading.Lock()

    def take(self, count: int, period: float, delay: float) -> float | None:
        """
        Wait for a turn.

        :param count: how many requests a period holds
        :param period: in seconds
        :param delay: how long the request may take to arrive, in seconds, at most ``MAX_AHEAD``
        :return: when it will have arrived at the latest, for :meth:`arrived`; None where the file cannot be used
        """
        while self._usable:
            try:
                with self._locked() as file:
                    now = time.monotonic()
                    arrivals = _read(file, now)
                    pause = _pause(arrivals, now, count, period)
                    if not pause:
                        _write(file, [*arrivals, now + delay])
                        return now + delay
            except OSError as error:
                self._give_up(error)
            else:
                time.sleep(pause)
        return None

    def seconds_until_turn(self, count: int, period: float) -> float:
        """Return how long a request that came now would have to wait, as far as that can be known."""
        if self._usable:
            with suppress(OSError):
                file = self._open()
                try:
                    now = time.monotonic()
                    return _pause(_read(file, now), now, count, period)
                finally:
                    os.close(file)
        return 0.0

    def arrived(self, latest: float, at: float) -> None:
        """
        Correct when a request arrived, now that more is known.

        :param latest: what :meth:`take` returned
        """
        try:
            with self._locked() as file:
                arrivals = _read(file, time.monotonic())
                if latest in arrivals:
                    arrivals.remove(latest)
                    _write(file, [*arrivals, at])
        except OSError as error:
            self._give_up(error)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        file = self._open()
        try:
            until = time.monotonic() + MAX_LOCKED
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.001)
            yield file
        finally:
            os.close(file)

    def _open(self) -> int:
        """Open the file, each time by its name: a cleaner of old files may have deleted it, and its folder."""
        temporary = tempfile.gettempdir()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        try:
            return os.open(f"{_own_folder(temporary)}/{self._name}", flags, 0o600)
        except FileNotFoundError:
            _own_folder.cache_clear()
            return os.open(f"{_own_folder(temporary)}/{self._name}", flags, 0o600)

    def _give_up(self, error: OSError) -> None:
        with self._giving_up:
            if self._usable:
                self._usable = False
                log.info("Other processes with this API key are not taken into account in its rate: %s", error)


@cache
def _own_folder(temporary: str) -> str:
    """Return the folder of this user's files, which nobody else can read or write, without its old files."""
    folder = f"{temporary}/stripe-identity-{os.geteuid()}"
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "not a folder of this user alone", folder)
    for entry in os.scandir(folder):  # a key, or an emulator on a port of its own, may never be used again
        with suppress(OSError):
            if entry.stat(follow_symlinks=False).st_mtime < time.time() - 86400:
                os.unlink(entry.path)
    return folder


def _read(file: int, now: float) -> list[float]:
    """Return the arrivals, leaving out what cannot be any."""
    found = os.pread(file, 8 * KEPT, 0)
    times = array("d")
    times.frombytes(found[: len(found) // 8 * 8])
    return sorted(arrival for arrival in times if 0 < arrival <= now + MAX_AHEAD)


def _write(file: int, arrivals: list[float]) -> None:
    kept = sorted(arrivals)[-KEPT:]
    os.pwrite(file, array("d", [0.0] * (KEPT - len(kept)) + kept).tobytes(), 0)


def _pause(arrivals: list[float], now: float, count: int, period: float) -> float:
    return max(arrivals[-count] + period - now, 0.0) if len(arrivals) >= count else 0.0

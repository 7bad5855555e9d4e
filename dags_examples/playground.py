"""
Airflow to click around in: ``make airflow``.

Starts Airflow on this machine with the example DAGs, and the emulator as ``stripe_identity_default``.
In the emulator, every few seconds, people create sessions and are verified, fail or give up. Sensors look every few
seconds, whatever their ``poke_interval`` is. Ctrl-C ends everything and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_stripe_identity.testing import StripeIdentityServer

HERE = Path(__file__).resolve().parent
COMPONENTS = {
    "api-server": [],
    # The log servers of these two would listen on all interfaces.
    "scheduler": ["--skip-serve-logs"],
    "triggerer": ["--skip-serve-logs"],
    "dag-processor": [],
}
SESSIONS, DAYS = 5_000, 7
REASONS = ("document_expired", "selfie_face_mismatch", "document_unverified_other", "consent_declined")


def main() -> None:
    """Start everything, wait for Ctrl-C, end everything."""
    home = Path(tempfile.mkdtemp(prefix="stripe_identity_airflow_"))
    started: list[subprocess.Popen[bytes]] = []
    stop = threading.Event()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with StripeIdentityServer() as emulator:
            now = datetime.now(UTC)
            emulator.populate(SESSIONS, now - timedelta(days=DAYS), now)
            url = f"http://127.0.0.1:{free_port()}"
            environment = environment_of(home, url, emulator)
            for folder in ("config", "tmp"):
                (home / folder).mkdir()
            (home / "config" / "airflow_local_settings.py").write_text(POLICY)
            with (home / "airflow.log").open("wb") as log:
                print("Starting Airflow, that takes about half a minute ...", flush=True)
                run: dict[str, Any] = {
                    "env": environment,
                    "cwd": home,
                    "stdout": log,
                    "stderr": log,
                    "stdin": subprocess.DEVNULL,
                }
                airflow = [sys.executable, "-m", "airflow"]
                subprocess.run([*airflow, "db", "migrate"], check=True, **run)
                for component, options in COMPONENTS.items():
                    command = [*airflow, component, *options]
                    started.append(subprocess.Popen(command, start_new_session=True, **run))
                wait_until_up(url, started, home)
                connection = shlex.quote(emulator.airflow_connection())
                cli = Path(sys.executable).with_name("airflow")
                print(WELCOME.format(url=url, emulator=emulator.url, connection=connection, cli=cli), flush=True)
                threading.Thread(target=live, args=(emulator, stop), daemon=True).start()
                while all(process.poll() is None for process in started):
                    time.sleep(0.5)
                sys.exit(f"Airflow ended by itself:\n{(home / 'airflow.log').read_text()[-4000:]}")
    except KeyboardInterrupt:
        print("\nEnding ...", flush=True)
    finally:
        stop.set()
        end(started)
        shutil.rmtree(home, ignore_errors=True)


WELCOME = """
Airflow                  {url}
                         no login is needed; unpause a DAG, or trigger one
Explorer                 Browse -> Stripe Identity
Stripe (the emulator)    {emulator}
                         people create sessions and are verified every few seconds

Be a person yourself: trigger stripe_identity_wait for user_123, run this in another terminal, open the address
that it prints, verify, and see the DAG go on:

export AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT={connection}
{cli} stripe-identity emulator-session --client-reference-id user_123

Ctrl-C ends everything.
"""


#: A cluster policy of Airflow's.
POLICY = """
def task_policy(task):
    if hasattr(task, "poke_interval"):
        task.poke_interval = min(task.poke_interval, 5)
"""


def environment_of(home: Path, url: str, emulator: StripeIdentityServer) -> dict[str, str]:
    """Return the environment of Airflow's processes."""
    secret = secrets.token_hex(32)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rpartition(":")[2],
        "AIRFLOW__API__SECRET_KEY": secret,
        "AIRFLOW__API_AUTH__JWT_SECRET": secret,
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__STRIPE_IDENTITY__EXPLORER_ENABLED": "True",
        "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": emulator.airflow_connection(),
        "STRIPE_IDENTITY_LAKE": (home / "lake").as_uri(),
        "STRIPE_IDENTITY_WAREHOUSE": str(home / "warehouse.duckdb"),
        "NO_PROXY": "127.0.0.1,localhost",
        "TMPDIR": str(home / "tmp"),
    }


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_until_up(url: str, started: list[subprocess.Popen[bytes]], home: Path) -> None:
    """Return once the web server answers."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in started):
            break
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5),
        ):
            return
        time.sleep(0.5)
    sys.exit(f"Airflow did not start:\n{(home / 'airflow.log').read_text()[-4000:]}")


def live(emulator: StripeIdentityServer, stop: threading.Event) -> None:
    """Let people come, be verified, fail, try again and give up."""
    open_sessions: list[str] = []
    for number in count(1):
        if stop.wait(random.uniform(2, 6)):
            return
        open_sessions.append(emulator.create_session(client_reference_id=f"visitor_{number}")["id"])
        if len(open_sessions) < 3:
            continue
        session = open_sessions.pop(random.randrange(len(open_sessions)))
        with contextlib.suppress(Exception):  # somebody acted on the session's own page meanwhile
            outcome = random.random()
            if outcome < 0.7:
                emulator.process(session)
                emulator.verify(session)
            elif outcome < 0.9:
                emulator.process(session)
                emulator.require_input(session, code=random.choice(REASONS))
            else:
                emulator.cancel(session)


def end(started: list[subprocess.Popen[bytes]]) -> None:
    """Interrupt Airflow's processes, then kill what is left of them and of all that they started."""
    family: set[psutil.Process] = set()

    def see() -> None:
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                family.update(psutil.Process(process.pid).children(recursive=True))

    see()
    for process in started:
        process.send_signal(signal.SIGINT)
    for process in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        see()  # a task may have begun meanwhile
        process.kill()
        process.wait()
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(family, timeout=10)


if __name__ == "__main__":
    main()

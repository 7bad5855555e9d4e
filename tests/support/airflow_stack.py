"""A real Airflow for tests: its four processes on loopback, and ``airflow dags test`` as a subprocess."""

import atexit
import base64
import contextlib
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psutil
import requests

AIRFLOW = Path(sys.executable).with_name("airflow")

# The log servers of the scheduler and the triggerer would listen on all interfaces.
COMPONENTS = {
    "api-server": [],
    "scheduler": ["--skip-serve-logs"],
    "dag-processor": [],
    "triggerer": ["--skip-serve-logs"],
}

CELERY_WORKER = "celery-worker"
COMMANDS = {name: [name, *options] for name, options in COMPONENTS.items()} | {
    CELERY_WORKER: ["celery", "worker", "--skip-serve-logs", "--concurrency", "4"]
}

# All timeouts are for a machine that does nothing else; a busy one takes several times as long.
PATIENCE = 4

# In the environment of a stack: a database instead of SQLite, shared by as many components as one likes.
DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"

# Random, but the same for every Airflow of this test run: a second one may be started on the first one's home.
FERNET_KEY = base64.urlsafe_b64encode(os.urandom(32)).decode()
SECRET_KEY = os.urandom(32).hex()


def _write_config(home: Path, dags: Path, port: int, base_path: str = "") -> None:
    """Write airflow.cfg: unlike variables it leaves the last word to the caller's ``AIRFLOW__…``.

    It also keeps four processes from generating the file at the same time.
    """
    url = f"http://127.0.0.1:{port}"
    config: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": dags.absolute(),
            "dags_are_paused_at_creation": False,
            "execution_api_server_url": f"{url}/execution/",
            "executor": "LocalExecutor",
            "fernet_key": FERNET_KEY,
            "load_examples": False,
            "parallelism": 8,
            "simple_auth_manager_all_admins": True,
        },
        "api": {"base_url": url, "host": "127.0.0.1", "port": port, "secret_key": SECRET_KEY},
        "api_auth": {"jwt_secret": SECRET_KEY},
        # A new or changed file is parsed at the next refresh; the interval only counts for unchanged ones.
        "dag_processor": {
            "bundle_refresh_check_interval": 1,
            "min_file_process_interval": 3600,
            "refresh_interval": 1,
        },
        "scheduler": {
            "scheduler_heartbeat_sec": 1,
            "scheduler_idle_sleep_time": 0.3,
            "trigger_timeout_check_interval": 2,
        },
        # A new triggerer takes over a killed one's triggers after the threshold.
        "triggerer": {"job_heartbeat_sec": 1, "triggerer_health_check_threshold": 10},
        "usage_data_collection": {"enabled": False},
        "workers": {
            "execution_api_timeout": 60,  # an answer that comes too late fails a task that has not begun
            "min_heartbeat_interval": 2,  # how soon a task notices that it was marked as failed
        },
    }
    lines = []
    for section, options in config.items():
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in options.items())]
    (home / "airflow.cfg").write_text("\n".join(lines) + "\n")


def _environment(home: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without its Airflow, with `home` and `env`."""
    inherited = {key: value for key, value in os.environ.items() if not key.lstrip("_").startswith("AIRFLOW")}
    return {**inherited, "no_proxy": "127.0.0.1,localhost", "AIRFLOW_HOME": str(home), **env}


def _prepare(home: Path, dags: Path, port: int, env: Mapping[str, str], base_path: str = "") -> None:
    """Give `home` a configuration and, if it is new, a migrated database."""
    (home / "logs").mkdir(parents=True, exist_ok=True)
    _write_config(home, dags, port, base_path)
    if DATABASE in env:
        done = _run([AIRFLOW, "db", "migrate"], home, env, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
    elif not (home / "airflow.db").exists():
        shutil.copy(_migrated_database(), home / "airflow.db")


@functools.cache
def _migrated_database() -> Path:
    """Migrate a database once for all tests: that takes seconds, copying it does not."""
    home = Path(tempfile.mkdtemp(prefix="airflow-template-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    _write_config(home, dags=home, port=0)
    done = _run([AIRFLOW, "db", "migrate"], home, {}, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "airflow.db"


def _family(leaders: Iterable[subprocess.Popen[str]]) -> set[psutil.Process]:
    """Return all that `leaders` started.

    A session keeps those whose parent died and those with a group of their own, as every task has; the
    descendants add those with a session of their own, such as a BashOperator's command.
    """
    pids = {leader.pid for leader in leaders}
    family = set()
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(process.pid) in pids:
                family |= {process, *process.children(recursive=True)}
    return family


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; an orphan may stay as a zombie, which does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end(leaders: list[subprocess.Popen[str]], grace: float) -> None:
    """Interrupt `leaders`, and after `grace` seconds kill what is left of them and of all they started."""
    family = _family(leaders)
    deadline = time.monotonic() + grace
    if grace:
        for leader in leaders:
            leader.send_signal(signal.SIGINT)  # SIGTERM would orphan children
        for leader in leaders:
            with contextlib.suppress(subprocess.TimeoutExpired):
                leader.wait(max(0, deadline - time.monotonic()))
    family |= _family(leaders)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for leader in leaders:
        leader.wait()
    while any(map(is_alive, family)):  # a killed process still has to be scheduled to die
        time.sleep(0.02)


def _run(command: list[Any], home: Path, env: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command like ``subprocess.run``, but leave none of its children behind."""
    process = subprocess.Popen(
        command,
        cwd=home,
        env=_environment(home, env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE * timeout)
    finally:
        _end([process], grace=0)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def run_dags_test(
    dag_id: str,
    *,
    home: Path,
    dags: Path,
    env: Mapping[str, str] | None = None,
    logical_date: str | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run ``airflow dags test``; its exit status says whether the run succeeded."""
    _prepare(home, dags, 0, env or {})
    command = [AIRFLOW, "dags", "test", dag_id, *([logical_date] if logical_date else [])]
    return _run(command, home, env or {}, timeout)


def kind(component: str) -> str:
    """Return ``triggerer`` of ``triggerer-2``."""
    return re.sub(r"-\d+$", "", component)


class AirflowStack:
    """API server, scheduler, DAG processor and triggerer on `home`, with the DAGs of the folder `dags`.

    `env` is added to the environment of the four: ``AIRFLOW_CONN_…``, ``AIRFLOW__…``. Some of the `components` are
    enough for some tests: the API server alone for the user interface. On a database other than SQLite there may be
    several of a kind: ``scheduler-2``, ``triggerer-2``. With the CeleryExecutor there are ``celery-worker`` too. All of
    it may live below a `base_path`, such as ``/airflow``.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        env: Mapping[str, str] | None = None,
        components: Collection[str] = tuple(COMPONENTS),
        base_path: str = "",
    ) -> None:
        self.home = home.absolute()
        self.dags = dags
        self.env = env or {}
        self.components = components
        self.base_path = base_path
        self._started: dict[str, tuple[subprocess.Popen[str], datetime]] = {}
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy

    def __enter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}{self.base_path}"
        _prepare(self.home, self.dags, port, self.env, self.base_path)
        atexit.register(self.close)
        try:
            # A task that meets no API server fails before it has begun, so nobody schedules any until there is one.
            schedulers = [component for component in self.components if kind(component) == "scheduler"]
            for component in set(self.components).difference(schedulers):
                self._spawn(component)
            self._wait_healthy("api-server")
            self.log_in()
            for component in schedulers:
                self._spawn(component)
            for component in self.components:
                self._wait_healthy(component)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all components."""
        atexit.unregister(self.close)
        _end([process for process, _ in self._started.values()], grace=10)
        self._started.clear()

    # Components

    def start(self, component: str) -> None:
        """Start a component and wait until it is healthy."""
        self._spawn(component)
        self._wait_healthy(component)

    def stop(self, component: str, *, kill: bool = False) -> None:
        """Stop a component and all that it started; with `kill` at once, as in a crash."""
        process, _ = self._started.pop(component)
        _end([process], grace=0 if kill else 20)

    def restart_if_ended(self, component: str) -> bool:
        """Start a component again, as a supervisor would, if it has ended by itself; tell whether it had."""
        process, _ = self._started[component]
        if process.poll() is None:
            return False
        self.stop(component)
        self._spawn(component)
        return True

    def processes(self, *components: str) -> set[psutil.Process]:
        """Return the processes of the running components, or of those named."""
        return _family(self._started[component][0] for component in components or self._started)

    def _spawn(self, component: str) -> None:
        assert component not in self._started, f"{component} is running"
        command = COMMANDS[kind(component)]
        if kind(component) == CELERY_WORKER:
            command = [*command, "--celery-hostname", f"{component}@%h"]
        with (self.home / "logs" / f"{component}.log").open("a") as log:
            process = subprocess.Popen(
                [AIRFLOW, *command],
                cwd=self.home,
                env=_environment(self.home, self.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self._started[component] = process, datetime.now(UTC)

    def _wait_healthy(self, component: str, timeout: float = 120) -> None:
        process, started_at = self._started[component]

        def healthy() -> bool:
            assert process.poll() is None, f"{component} ended with {process.returncode}\n{self._tails()}"
            try:
                health = self._http.get(f"{self.url}/api/v2/monitor/health", timeout=10).json()
            except (requests.RequestException, ValueError):
                return False
            if kind(component) in ("api-server", CELERY_WORKER):  # Airflow knows no health of workers
                return True
            job = kind(component).replace("-", "_")
            if component != kind(component):
                # The API tells the latest heartbeat of all of a kind.
                return len(self.jobs(job)) >= sum(kind(name) == kind(component) for name in self._started)
            # Not its "status": that of a killed predecessor still says healthy.
            heartbeat = health[job][f"latest_{job}_heartbeat"]
            return bool(heartbeat) and datetime.fromisoformat(heartbeat) > started_at

        self.until(healthy, timeout, f"{component} is healthy")

    def log_in(self) -> None:
        """Get a token for the REST API at `url`, also of an Airflow that somebody else has started there."""
        token = self._http.get(f"{self.url}/auth/token", timeout=30).json()["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def jobs(self, job: str) -> list[dict[str, Any]]:
        """Return the running jobs of a kind, such as ``triggerer``, that are alive."""
        job_type = f"{job.title().replace('_', '')}Job"
        jobs: list[dict[str, Any]] = self.get("jobs", job_type=job_type, job_state="running", is_alive=True)["jobs"]
        return jobs

    def until(
        self, check: Callable[[], Any], timeout: float, what: str, detail: Callable[[], object] = lambda: ""
    ) -> Any:
        """Return the first true result of `check`, which takes no more than `timeout` seconds on an idle machine."""
        deadline = time.monotonic() + PATIENCE * timeout
        began = time.monotonic()
        while not (result := check()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Not within {PATIENCE * timeout} s: {what}\n{detail()}\n{self._tails()}")
            # What is waited for needs the processor too.
            time.sleep(max(0.3, 3 * (time.monotonic() - began)))
            began = time.monotonic()
        return result

    def _tails(self) -> str:
        """Return the last lines of each component's output."""
        return "\n".join(
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            for log in sorted((self.home / "logs").glob("*.log"))
        )

    def cli(self, *command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run an ``airflow`` command beside the four processes."""
        return _run([AIRFLOW, *command], self.home, self.env, timeout)

    # REST

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send a request to the REST API; `path` is what follows ``/api/v2/``.

        On SQLite a request that meets another may fail, undone; it is sent again.
        """
        url = f"{self.url}/api/v2/{path.lstrip('/')}"

        def answers() -> list[requests.Response]:
            response = self._http.request(method, url, timeout=60, **kwargs)
            is_locked = response.status_code >= 500 and "Database error" in response.text
            return [] if is_locked else [response]

        (response,) = self.until(answers, 60, f"the database takes {method} {path}")
        if not response.ok:
            message = f"{method} {path}: {response.status_code} {response.text}"
            raise requests.HTTPError(message, response=response)
        return response

    def get(self, path: str, **params: Any) -> Any:
        """GET JSON."""
        return self.request("GET", path, params=params).json()

    def post(self, path: str, json: object) -> Any:
        """POST JSON and return JSON."""
        return self.request("POST", path, json=json).json()

    def patch(self, path: str, json: object) -> Any:
        """PATCH JSON and return JSON."""
        return self.request("PATCH", path, json=json).json()

    def delete(self, path: str) -> None:
        """DELETE."""
        self.request("DELETE", path)

    # Runs

    def trigger(
        self,
        dag_id: str,
        *,
        conf: Mapping[str, Any] | None = None,
        logical_date: str | None = None,
        run_id: str | None = None,
        timeout: float = 60,
    ) -> str:
        """Start a run, once the DAG is parsed, and return its id."""

        def parsed() -> bool:
            return dag_id in [dag["dag_id"] for dag in self.get("dags", dag_ids=dag_id)["dags"]]

        self.until(parsed, timeout, f"DAG {dag_id} is parsed", self.import_errors)
        self.patch(f"dags/{dag_id}", {"is_paused": False})
        body = {"conf": conf or {}, "logical_date": logical_date, "dag_run_id": run_id}
        return self.post(f"dags/{dag_id}/dagRuns", body)["dag_run_id"]

    def import_errors(self) -> str:
        """Return the stack traces of the DAG files that failed to parse."""
        return "\n".join(error["stack_trace"] for error in self.get("importErrors")["import_errors"])

    def wait(self, dag_id: str, run_id: str, timeout: float = 120) -> str:
        """Wait until a run ends and return its state."""

        def final_state() -> str | None:
            state = self.get(_run_path(dag_id, run_id))["state"]
            return state if state in ("success", "failed") else None

        states = functools.partial(self._states, dag_id, run_id)
        return self.until(final_state, timeout, f"{dag_id} {run_id} ended", states)

    def succeed(self, dag_id: str, run_id: str, timeout: float = 120) -> None:
        """Wait until a run succeeds; of one that fails, tell what its tasks and the scheduler said."""
        if self.wait(dag_id, run_id, timeout) == "success":
            return
        told = [f"{dag_id} {run_id} failed", self._states(dag_id, run_id)]
        for path, text in self.logs().items():
            if f"dag_id={dag_id}" in path.parts and f"run_id={run_id}" in path.parts:
                told.append(f"--- {path}\n{text[-4000:]}")
            elif path.name.startswith("scheduler"):
                told += [line for line in text.splitlines() if run_id in line and "[error" in line]
        raise AssertionError("\n".join(told))

    def wait_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: Iterable[str],
        *,
        map_index: int = -1,
        timeout: float = 120,
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of `states` and return it."""
        wanted = {states} if isinstance(states, str) else set(states)

        def found() -> dict[str, Any] | None:
            for instance in self.task_instances(dag_id, run_id):
                if (instance["task_id"], instance["map_index"]) == (task_id, map_index):
                    return instance if instance["state"] in wanted else None
            return None

        what = f"{dag_id} {run_id} {task_id}[{map_index}] is {' or '.join(sorted(wanted))}"
        return self.until(found, timeout, what, functools.partial(self._states, dag_id, run_id))

    def _states(self, dag_id: str, run_id: str) -> str:
        return "\n".join(
            f"{instance['task_id']}[{instance['map_index']}] try {instance['try_number']}: {instance['state']}"
            for instance in self.task_instances(dag_id, run_id)
        )

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return a run's task instances."""
        return self.get(f"{_run_path(dag_id, run_id)}/taskInstances", limit=1000)["task_instances"]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return an XCom's JSON value; other types, such as dates, are as Airflow serialized them."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.get(path, map_index=map_index)["value"]

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of one try, a JSON object a line."""
        return self.request(
            "GET",
            f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}",
            params={"map_index": map_index, "full_content": True},
            headers={"Accept": "application/x-ndjson"},
        ).text

    def logs(self) -> dict[Path, str]:
        """Return every log file: of tasks, triggers and parsed files, and each component's output."""
        files = (path for path in (self.home / "logs").rglob("*") if path.is_file())
        return {path: path.read_text(errors="replace") for path in files}


def _run_path(dag_id: str, run_id: str) -> str:
    return f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"

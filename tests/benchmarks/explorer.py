"""
What the explorer costs Airflow: its plugin where it is of no use, and the api-server's health while Stripe hangs.

``make bench``. The plugin is loaded beside an empty one in fresh processes that have imported what a scheduler, a
worker and a dag-processor import. Then 50 callers ask a Stripe that answers after 60 s, at once, and again as soon as
they are refused, while another process asks for Airflow's health without a pause.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

sys.path.append(str(Path(__file__).parents[1]))
from support import health
from support.airflow_stack import AirflowStack

from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

PROCESSES = {
    "scheduler": "airflow.jobs.scheduler_job_runner",
    "worker": "airflow.sdk.execution_time.task_runner",
    "dag-processor": "airflow.dag_processing.processor",
}
LOADS, CALLERS, SECONDS = 7, 50, 20
ENABLED = {"AIRFLOW__STRIPE_IDENTITY__EXPLORER_ENABLED": "True"}
SESSIONS = "connections/stripe_identity_default/v1/identity/verification_sessions"

EMPTY = """
from airflow.plugins_manager import AirflowPlugin

class EmptyPlugin(AirflowPlugin):
    name = "empty"
"""
LOAD = """
import importlib, json, sys, time
importlib.import_module(sys.argv[1])
import airflow.plugins_manager

def load(module, name):
    began = time.perf_counter()
    getattr(importlib.import_module(module), name).on_load()
    return time.perf_counter() - began

load("warm_up", "EmptyPlugin")
empty = load("empty_plugin", "EmptyPlugin")
ours = load("airflow_provider_stripe_identity._explorer.plugin", "StripeIdentityExplorerPlugin")
print(json.dumps([empty, ours]))
"""
CALL = """
import collections, json, sys, threading, time, urllib.error, urllib.request
address, token, callers, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
seen, begin, end = collections.Counter(), threading.Barrier(callers), time.monotonic() + seconds
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

def call():
    begin.wait()
    while time.monotonic() < end:
        try:
            opener.open(urllib.request.Request(address, headers={"Authorization": "Bearer " + token}), timeout=90)
        except urllib.error.HTTPError as error:
            seen[error.code] += 1

threads = [threading.Thread(target=call) for _ in range(callers)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(seen))
"""


def load_plugins() -> None:
    """Load both plugins, and print the medians in milliseconds."""
    print("| loading a plugin | empty | the explorer's | difference |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("warm_up", "empty_plugin"):
            (Path(folder) / f"{name}.py").write_text(EMPTY)
        env = os.environ | ENABLED | {"AIRFLOW_HOME": folder, "PYTHONPATH": folder, "PYTHONWARNINGS": "ignore"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        for process, module in PROCESSES.items():
            runs = []
            for _ in range(LOADS):
                done = subprocess.run(
                    [sys.executable, "-c", LOAD, module], env=env, check=True, capture_output=True, text=True
                )
                runs.append(json.loads(done.stdout.splitlines()[-1]))
            empty, ours = (1000 * statistics.median(times) for times in zip(*runs, strict=True))
            print(f"| {process} | {empty:.2f} ms | {ours:.2f} ms | {ours - empty:.2f} ms |", flush=True)


def watch_health() -> None:
    """Print how long Airflow's health takes, without callers and with them."""
    with tempfile.TemporaryDirectory() as folder, StripeIdentityServer() as stripe:
        home = Path(folder)
        env = ENABLED | {"AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": stripe.airflow_connection()}
        with AirflowStack(home / "airflow", home, env, components=["api-server"]) as airflow:
            token = requests.get(f"{airflow.url}/auth/token", timeout=30).json()["access_token"]
            stripe.fault_every(1, Fault.delay(60))
            address = f"{airflow.url}/stripe-identity/{SESSIONS}"
            call = [sys.executable, "-c", CALL, address, token, str(CALLERS), str(SECONDS)]
            for _ in range(20):
                airflow.get("monitor/health")
            print("\n| Airflow's health | median | 99 % below | slowest |\n|---|---|---|---|")
            for name, callers in (("idle", None), (f"{CALLERS} callers", call)):
                calling = subprocess.Popen(callers, stdout=subprocess.PIPE, text=True) if callers else None
                took = health.took(health.watch(airflow.url, SECONDS))
                answers = json.loads(calling.communicate()[0]) if calling else {}
                name += "".join(f"; {count:,} x {status}" for status, count in sorted(answers.items()))
                figures = (statistics.median(took), took[len(took) * 99 // 100], took[-1])
                print(f"| {name} | {' | '.join(f'{1000 * figure:.0f} ms' for figure in figures)} |", flush=True)


if __name__ == "__main__":
    load_plugins()
    watch_health()

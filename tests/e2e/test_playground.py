"""``make airflow``: started, used as a person would, and ended with Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from selenium.webdriver.common.by import By
from support.airflow_stack import AirflowStack
from support.browser import chromium, wait_for_text
from support.paths import ROOT


def processes_below(folder: Path) -> list[psutil.Process]:
    """The processes whose Airflow lives in the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            home = process.environ().get("AIRFLOW_HOME", "")
        except (psutil.Error, OSError):
            continue
        if home.startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.mark.timeout(600)
def test_a_session_is_verified_by_click_and_the_waiting_task_goes_on(tmp_path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    making = subprocess.Popen(
        ["make", "airflow"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches a whole group
        # What runs in the background ignores it, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        said = ""
        while "Ctrl-C ends everything" not in said:
            line = making.stdout.readline()
            assert line, said
            said += line
        airflow = AirflowStack(tmp_path, tmp_path)
        airflow.url = re.search(r"^Airflow +(http\S+)", said, re.MULTILINE)[1]
        airflow.log_in()
        run_id = airflow.trigger("stripe_identity_wait", conf={"client_reference_id": "user_123"}, timeout=120)
        airflow.wait_task("stripe_identity_wait", run_id, "wait_until_verified", "deferred", timeout=180)

        # As it is printed.
        export, command = re.search(r"^(export .+)\n(.+)$", said, re.MULTILINE).groups()
        environment = os.environ | {"AIRFLOW_HOME": str(tmp_path / "home")}
        printed = subprocess.run(
            ["bash", "-ec", f"{export}\n{command}"], env=environment, capture_output=True, text=True, check=True
        )
        (address,) = re.findall(r"http://\S+", printed.stdout)
        with chromium(tmp_path / "profile") as browser:
            browser.get(address)
            browser.find_element(By.XPATH, "//button[.='Verify']").click()
            wait_for_text(browser, "state", "verified")
        airflow.succeed("stripe_identity_wait", run_id, timeout=180)
        assert "user_123 was verified by vs_" in airflow.xcom("stripe_identity_wait", run_id, "open_account")
        assert processes_below(folder)
    finally:
        os.killpg(making.pid, signal.SIGINT)
        rest, _ = making.communicate(timeout=120)
    assert "Ending" in rest
    assert processes_below(folder) == []
    assert list(folder.iterdir()) == []

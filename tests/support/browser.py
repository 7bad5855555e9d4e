"""Chromium without a window, and Airflow's connection form in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import text_to_be_present_in_element
from selenium.webdriver.support.ui import WebDriverWait

PACKAGES = ("chromium", "chromium-driver", "fonts-dejavu-core")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --no-proxy-server --window-size=1280,1000"
)

# No name is looked up: what a page asks of another host fails at once.
NO_OTHER_HOST = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"

STILL = "{textContent: '* { animation: none !important; transition: none !important }'}"


def install() -> None:
    """Install Chromium where it is missing; one process does, and the others wait for it."""
    with (Path(tempfile.gettempdir()) / "stripe-identity-tests-browser.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if shutil.which("chromium") and shutil.which("chromedriver"):
            return
        command = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(PACKAGES)}"
        assert os.geteuid() == 0, f"The tests of the user interface need a browser. As root: {command}"
        subprocess.run(command, shell=True, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Start a browser; it ends with the block."""
    install()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS.split(), NO_OTHER_HOST, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def wait_for_text(driver: webdriver.Chrome, element_id: str, text: str) -> None:
    """Wait until an element shows a text, on this page or the next one."""
    WebDriverWait(driver, 120).until(text_to_be_present_in_element((By.ID, element_id), text))


class ConnectionsPage:
    """Airflow's page of connections, as a user sees it."""

    def __init__(self, driver: webdriver.Chrome, airflow_url: str) -> None:
        self.driver = driver
        self.url = f"{airflow_url}/connections"

    def open_form(self, connection_type: str) -> None:
        """Open an empty form for a type of connection."""
        self.driver.get_log("browser")  # forget what other pages said
        self.driver.get(self.url)
        # What moves cannot be clicked reliably.
        self.driver.execute_script(f"document.head.append(Object.assign(document.createElement('style'), {STILL}))")
        self.button("Add Connection").click()
        choice = self.find("[role=dialog] [role=combobox]")
        choice.send_keys(connection_type, Keys.ENTER)
        self.find("[role=dialog] [name=password]")

    def open_section(self, title: str) -> None:
        """Open a section of the form; the others close."""
        section = self.button(title)
        section.click()
        self.until(lambda: section.get_attribute("aria-expanded") == "true")

    def fill(self, name: str, value: object) -> None:
        """Type into a standard field."""
        self.find(f"[role=dialog] [name={name}]").send_keys(str(value))

    def fill_extra(self, name: str, value: object) -> None:
        """Type into a field of the extra, whose section is open."""
        self.until(self.extra(name).is_displayed)
        self.extra(name).send_keys(str(value), Keys.TAB)

    def extra(self, name: str) -> WebElement:
        """The input of a field of the extra: of text, or of a number."""
        return self.find(f"[role=dialog] :is(#element_{name}, [id='number-input:element_{name}'] input)")

    def save(self) -> None:
        """Save, and see the form close."""
        self.button("Save").click()
        self.until(lambda: not self.driver.find_elements(By.CSS_SELECTOR, "[role=dialog]"))

    def test(self, connection_id: str) -> str:
        """Press the button in the connection's row, and return what Airflow tells."""
        row = f"//tr[td[normalize-space()='{connection_id}']]"
        self.until(lambda: self.driver.find_element(By.XPATH, f"{row}//button[@aria-label='Test Connection']")).click()
        told = "[data-scope=toast][data-part=root]:has([data-part=description])"
        shown = self.until(
            lambda: [
                toast.text
                for toast in self.driver.find_elements(By.CSS_SELECTOR, told)
                if "Test Connection" in toast.text
            ]
        )
        return shown[-1]

    def text(self) -> str:
        """What the open form shows."""
        return self.find("[role=dialog]").text

    def errors(self) -> list[str]:
        """What the browser's console complains about since the form was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def button(self, text: str) -> WebElement:
        """The button that says just this."""
        return self.until(lambda: self.driver.find_element(By.XPATH, f"//button[normalize-space()='{text}']"))

    def find(self, selector: str) -> WebElement:
        """The element, once it is there."""
        return self.until(lambda: self.driver.find_element(By.CSS_SELECTOR, selector))

    def until(self, check: Callable[[], Any]) -> Any:
        """The first true result of `check`; an element that is not there yet is none."""
        return WebDriverWait(self.driver, 120).until(lambda _: check())

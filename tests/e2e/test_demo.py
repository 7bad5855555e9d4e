"""``make demo``: what it prints, and its report in Chromium."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from support.browser import chromium
from support.paths import ROOT

CARDS = {
    "From the first session to a verified person": 3,
    "Time from created to verified": 7,
    "Why sessions failed": 8,
    "What day two changed in the sessions of day one": 8,
    "Sessions of day one by hour (UTC) and status": 24 * 4,
}
DRAWN = """
return [...document.querySelectorAll('.card')].map(card => ({
    title: card.querySelector('h2').textContent,
    shapes: [...card.querySelectorAll('svg rect, svg path')].map(shape => ({
        kind: shape.tagName,
        says: shape.querySelector('title').textContent,
        area: shape.getBBox().width * shape.getBBox().height,
        color: getComputedStyle(shape).fill,
    })),
    width: card.querySelector('svg').getBoundingClientRect().width,
}))
"""
COLORS = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"


@pytest.fixture(scope="module")
def printed() -> str:
    """What the demo prints."""
    demo = [sys.executable, ROOT / "dags_examples" / "demo.py"]
    environment = {name: value for name, value in os.environ.items() if name not in ("STRIPE_API_KEY", "DAY")}
    done = subprocess.run(demo, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def driver(printed, tmp_path) -> Iterator[webdriver.Chrome]:
    """A browser with the report."""
    (report,) = re.findall(r"^With charts: (.+)$", printed, re.MULTILINE)
    with chromium(tmp_path) as driver:
        driver.get(Path(report).as_uri())
        yield driver


def luminance(color: str) -> float:
    """How bright a color is to the eye, from 0 to 1 (WCAG 2)."""
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", color)[:3])

    def linear(part: float) -> float:
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)


def test_it_prints_the_report_and_no_noise(printed):
    for title in (
        "From the first session to a verified person",
        "Time from created to verified",
        "Why sessions failed",
    ):
        assert title in printed
    assert not re.search(r"warn|error:|traceback|deprecat|\[info|\x1b", printed, re.IGNORECASE)
    steps = [line for line in printed.splitlines() if line.startswith("✓")]
    assert [step.split()[:3] for step in steps] == [["✓", "airflow", "db"], *[["✓", "airflow", "dags"]] * 3]


@pytest.mark.timeout(900)
def test_the_charts_are_drawn_from_what_was_counted(driver, printed):
    drawn = {card["title"]: card for card in driver.execute_script(DRAWN)}
    assert list(drawn) == list(CARDS)
    for title, bars in CARDS.items():
        shapes = drawn[title]["shapes"]
        assert sum(shape["kind"] == "rect" for shape in shapes) == bars
        assert drawn[title]["width"] > 300
        for shape in shapes:
            count = int(re.search(r"([\d,]+)$", shape["says"])[1].replace(",", ""))
            assert (shape["area"] > 0) == (count > 0), shape
            assert shape["color"].startswith("rgb")
    by_hour = drawn["Sessions of day one by hour (UTC) and status"]["shapes"]
    total = sum(int(shape["says"].rpartition(": ")[2].replace(",", "")) for shape in by_hour)
    assert f"{total:,}" in printed
    assert total == 10_000
    moved = [shape["says"] for shape in drawn["What day two changed in the sessions of day one"]["shapes"]]
    assert {"requires_input → verified: 400", "requires_input → canceled: 200"} <= set(moved)


def test_nothing_is_asked_of_another_host_and_nothing_is_wrong(driver):
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert "://" not in driver.page_source
    assert driver.get_log("browser") == []
    driver.set_window_size(600, 900)
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_light_and_dark_as_the_reader_has_it(driver):
    seen = {}
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        text, page = (luminance(color) for color in driver.execute_script(COLORS))
        assert (max(text, page) + 0.05) / (min(text, page) + 0.05) > 7  # legible for everybody
        seen[scheme] = page
    assert seen["light"] > 0.8 > 0.1 > seen["dark"]

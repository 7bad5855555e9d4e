"""The explorer in a real Airflow: in the browser as a user sees it, and from outside with Stripe's own packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from support import health
from support.airflow_stack import AirflowStack, run_dags_test
from support.browser import chromium
from support.reverse_proxy import ReverseProxy

from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

SESSIONS = "/v1/identity/verification_sessions"
ENABLED = {"AIRFLOW__STRIPE_IDENTITY__EXPLORER_ENABLED": "True"}
MAY_1 = 1_777_593_600
HOSTILE = [
    "<img src=x onerror=document.title='owned'>",
    "\"'><script>document.title='owned'</script>",
    "x" * 5000,
    "\u202e\u2067right to left",
    "a\nb\tc",
]
QUERY = {
    "client_reference_id": 'it\'s "1" $HOME & <b>',
    "created[gte]": str(MAY_1),
    "created[lt]": str(MAY_1 + 86400),
    "expand[]": "data.last_verification_report",
    "limit": "5",
    "related_customer": "cus_1",
    "status": "verified",
}


@pytest.fixture(scope="module")
def stripe():
    with StripeIdentityServer() as server:
        yield server


@pytest.fixture(autouse=True)
def fresh(stripe):
    stripe.clear_faults()
    stripe.requests.clear()


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, stripe):
    dags = tmp_path_factory.mktemp("dags")
    with AirflowStack(tmp_path_factory.mktemp("airflow"), dags, ENABLED, components=["api-server"]) as stack:
        for connection_id in ("stripe_identity_default", "other"):
            stack.post(
                "connections",
                {
                    "connection_id": connection_id,
                    "conn_type": "stripe_identity",
                    "host": stripe.url,
                    "password": stripe.api_key,
                },
            )
        stack.post("connections", {"connection_id": "http_default", "conn_type": "http"})
        yield stack


@pytest.fixture(scope="module")
def token(airflow) -> str:
    return requests.get(f"{airflow.url}/auth/token", timeout=30).json()["access_token"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


class ExplorerPage:
    """The page, in Airflow's frame."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, fragment: str = "") -> None:
        """Open it in Airflow's navigation, with an empty form unless the address has one."""
        self.driver.get("about:blank")
        origin = urlsplit(self.url)._replace(path="").geturl()
        stored = {"origin": origin, "storageTypes": "local_storage"}
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", stored)
        # Airflow appends the frame's own path to its address.
        self.driver.get(f"{self.url}/plugin/stripe-identity{urlsplit(self.url).path}/stripe-identity/{fragment}")
        self.enter()
        self.until(lambda: self.find("#connection").get_attribute("value"))
        self.until(lambda: self.code("curl"))
        self.driver.get_log("browser")

    def enter(self) -> None:
        """Go into the frame; Airflow may go to its login and back first, and make another."""

        def entered() -> bool:
            with suppress(WebDriverException):
                self.driver.switch_to.default_content()
                self.driver.switch_to.frame(self.driver.find_element(By.CSS_SELECTOR, "iframe"))
                return bool(self.driver.find_elements(By.CSS_SELECTOR, "#send"))
            return False

        self.until(entered)

    def fill(self, name: str, value: str) -> None:
        """Type into a field, or choose."""
        field = self.find(f"#{name}")
        if field.tag_name == "select":
            options = Select(field).options
            next(option for option in options if option.get_attribute("value") == value).click()
        else:
            self.driver.execute_script("arguments[0].closest('details')?.setAttribute('open', '')", field)
            if field.get_attribute("type") == "datetime-local":
                said = "arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
                self.driver.execute_script(f"arguments[0].value = arguments[1]; {said}", field, value)
            else:
                field.clear()
                field.send_keys(value)

    def check(self, path: str) -> None:
        """Tick a field to expand."""
        box = self.find(f"input[value='{path}']")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
        box.click()

    def send(self) -> None:
        """Send, and wait for the answer."""
        self.find("#send").click()
        self.answered()

    def answered(self) -> str:
        """The status line of the answer."""
        return self.until(lambda: (said := self.find("#outcome").text) and " ms" in said and said)

    def rows(self) -> list[list[str]]:
        """The table."""
        rows = "[...document.querySelectorAll('#sessions tbody tr')]"
        return self.driver.execute_script(f"return {rows}.map(row => [...row.cells].map(cell => cell.innerText))")

    def ids(self) -> list[str]:
        """The sessions in the table."""
        return [row[2] for row in self.rows()]

    def code(self, kind: str) -> str:
        """The snippet of a kind."""
        self.driver.execute_script(f"document.querySelector('[data-kind={kind}]').click()")
        return self.driver.execute_script("return document.getElementById('code').textContent")

    def copied(self, kind: str) -> str:
        """What the button copies: pasted into a field, as the clipboard may not be read."""
        self.code(kind)
        self.driver.execute_script(
            "window.copied = null; navigator.clipboard.writeText = async (text) => { window.copied = text }"
        )
        self.find("#copy").click()
        return self.until(lambda: self.driver.execute_script("return window.copied"))

    def errors(self) -> list[str]:
        """What the browser complains about."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def find(self, selector: str) -> Any:
        return self.until(lambda: self.driver.find_element(By.CSS_SELECTOR, selector))

    def until(self, check: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, 120).until(lambda _: check())


@pytest.fixture
def page(driver, airflow):
    page = ExplorerPage(driver, airflow.url)
    page.open()
    return page


def fill_all(page: ExplorerPage) -> None:
    """Fill the form with `QUERY`."""
    for name in ("client_reference_id", "limit", "related_customer", "status"):
        page.fill(name, QUERY[name])
    page.fill("created-kind", "interval")
    page.fill("created-start", "2026-05-01T00:00:00")
    page.fill("created-end", "2026-05-02T00:00:00")
    page.check("data.last_verification_report")
    page.until(lambda: str(MAY_1 + 86400) in page.code("curl") and "last_verification" in page.code("curl"))


def test_it_is_in_the_navigation_with_the_connections_of_its_type(page, driver, airflow):
    options = driver.find_elements(By.CSS_SELECTOR, "#connections option")
    assert [option.get_attribute("value") for option in options] == ["other", "stripe_identity_default"]
    assert page.find("#connection").get_attribute("value") == "stripe_identity_default"
    assert page.errors() == []
    driver.switch_to.default_content()
    plugins = airflow.get("plugins", limit=100)["plugins"]
    (view,) = [view for plugin in plugins for view in plugin["external_views"] if view["name"] == "Stripe Identity"]
    assert (view["category"], view["url_route"]) == ("browse", "stripe-identity")


def test_what_is_filled_in_is_what_stripe_gets(page, stripe):
    fill_all(page)
    page.send()
    assert dict(stripe.requests[-1].query) == QUERY
    assert "200" in page.answered()
    assert "req_" in page.answered()
    assert page.errors() == []


def test_the_table_pages_and_shows_a_session(page, stripe):
    made = [
        stripe.create_session(created=MAY_1 + n, client_reference_id="paged", status="verified")["id"] for n in range(5)
    ][::-1]
    page.fill("client_reference_id", "paged")
    page.fill("limit", "2")
    page.send()
    assert page.ids() == made[:2]
    assert page.rows()[0][0].startswith("2026-05-01 00:00:04 UTC")
    assert page.rows()[0][1:6] == ["verified", made[0], "paged", "document", ""]
    for button, wanted in (("next", made[2:4]), ("next", made[4:]), ("previous", made[2:4]), ("previous", made[:2])):
        page.find(f"#{button}").click()
        page.until(lambda wanted=wanted: page.ids() == wanted)
    page.until(lambda: not page.find("#previous").is_enabled())
    link = page.find("#sessions a").get_attribute("href")
    assert link == f"https://dashboard.stripe.com/test/identity/verification-sessions/{made[0]}"

    page.find("#sessions td button").click()
    assert page.find("#session-id").text == made[0]
    assert '"paged"' in page.find("#json").text
    page.find("#reload").click()
    page.until(lambda: stripe.requests[-1].path == f"{SESSIONS}/{made[0]}")
    page.until(lambda: "200" in page.find("#session-outcome").text)
    page.find("#json").send_keys(Keys.ESCAPE)
    page.until(lambda: not page.find("#session").is_displayed())
    assert page.errors() == []


def test_a_session_opens_in_the_dashboard_in_a_tab_of_its_own(page, driver, stripe):
    session_id = stripe.create_session(client_reference_id="in-the-dashboard")["id"]
    page.fill("client_reference_id", "in-the-dashboard")
    page.send()
    ours = driver.current_window_handle
    page.find("#sessions a").click()
    page.until(lambda: len(driver.window_handles) == 2)
    (other,) = set(driver.window_handles) - {ours}
    driver.switch_to.window(other)
    page.until(lambda: driver.current_url.endswith(f"/test/identity/verification-sessions/{session_id}"))
    assert driver.current_url.startswith("https://dashboard.stripe.com/")
    assert driver.execute_script("return opener") is None
    driver.close()
    driver.switch_to.window(ours)


def test_times_are_shown_and_typed_in_utc_and_in_local_time(page, driver, stripe):
    stripe.create_session(created=MAY_1 + 4, client_reference_id="in-tokyo")
    driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Tokyo"})
    try:
        page.open()
        page.fill("client_reference_id", "in-tokyo")
        page.fill("created-kind", "interval")
        page.fill("created-start", "2026-05-01T00:00:00")
        page.send()
        utc, local = page.rows()[0][0].split("\n")
        assert utc == "2026-05-01 00:00:04 UTC"
        assert "9:00:04" in local
        # The moment stays, its text does not.
        page.fill("time-zone", "local")
        page.until(lambda: page.find("#created-start").get_attribute("value").startswith("2026-05-01T09:00"))
        page.send()
        page.fill("created-start", "2026-05-01T09:00:04")
        page.send()
        asked = [dict(request.query)["created[gte]"] for request in stripe.requests]
        assert asked == [str(MAY_1), str(MAY_1), str(MAY_1 + 4)]
        # So it is in the page's address: a colleague elsewhere sends the same request.
        assert f"created%5Bgte%5D={MAY_1 + 4}" in driver.execute_script("return parent.location.hash")
    finally:
        driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_clear_empties_the_form_but_not_the_connection(page, stripe):
    page.fill("connection", "other")
    fill_all(page)
    page.find("#clear").click()
    page.until(lambda: "client_reference_id" not in page.code("curl") and "last_verification" not in page.code("curl"))
    page.send()
    assert [dict(request.query) for request in stripe.requests] == [{}]
    assert page.find("#connection").get_attribute("value") == "other"
    assert not page.find("#created-interval").is_displayed()


def test_the_keyboard_is_enough(page, driver, stripe):
    session_id = stripe.create_session(client_reference_id="by-keyboard")["id"]
    field = page.find("#client_reference_id")
    field.send_keys("by-keyboard")
    page.until(lambda: "by-keyboard" in page.find("#code").text)
    # On a busy machine the first one may meet a page that is still busy with itself: a person presses it again.
    page.until(lambda: field.send_keys(Keys.ENTER) or page.ids() == [session_id])
    page.find("[data-kind=curl]").click()
    page.find("[data-kind=curl]").send_keys(Keys.ARROW_RIGHT)
    assert driver.switch_to.active_element.get_attribute("data-kind") == "hook"
    assert "StripeIdentityHook" in page.find("#code").text
    page.find("#sessions td button").send_keys(Keys.ENTER)
    page.until(lambda: page.find("#session").is_displayed())


def test_an_error_says_what_to_do(page, stripe):
    stripe.inject(Fault.status(403, error={"code": "more_permissions_required", "message": "No permission"}))
    page.send()
    assert "403" in page.answered()
    assert "No permission" in page.find("#problem").text
    assert "Identity -> Verification Sessions" in page.find("#problem").text
    page.fill("limit", "500")
    page.until(lambda: "limit must be" in page.find("#code-note").text)
    page.send()
    page.until(lambda: "400" in page.find("#outcome").text)
    assert "limit must be" in page.find("#problem").text


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_session_holds_is_text(page, driver, stripe, text):
    reference = f"hostile {HOSTILE.index(text)}"
    session = stripe.create_session(client_reference_id=reference)
    word = text[:200]  # longer ones are no answer of Stripe's
    texts = {"status": word, "type": word, "last_error": {"code": text, "reason": text}, "metadata": {text: text}}
    hostile = session | texts | {"client_reference_id": text}
    stripe.inject(Fault.status(200, body={"object": "list", "has_more": False, "data": [hostile]}))
    page.send()
    ((_, status, _, shown, *_),) = page.rows()
    assert (status.split(), shown.split()) == (word.split(), text.split())
    page.find("#sessions td button").click()
    page.until(lambda: page.find("#session").is_displayed())
    assert not driver.find_elements(By.CSS_SELECTOR, "#json img, #json script, td img, td script")
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert driver.title != "owned"
    assert page.errors() == []


def test_no_inline_script_runs_and_no_other_host_is_asked(page, driver, airflow):
    policy = requests.get(f"{airflow.url}/stripe-identity/", timeout=30).headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'" in policy
    driver.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s)"
    )
    assert driver.execute_script("return window.ran") is None
    assert "Content Security Policy" in "".join(page.errors())
    hosts = driver.execute_script("return performance.getEntriesByType('resource').map(e => new URL(e.name).origin)")
    assert set(hosts) == {airflow.url}


def test_a_request_can_be_sent_to_a_colleague_without_what_is_private(page, driver, stripe):
    fill_all(page)
    page.fill("related_customer_account", "ann@example.com")
    page.until(lambda: "neither in the link nor kept" in page.find("#note").text)
    link = driver.execute_script("return parent.location.href")
    kept = driver.execute_script("return JSON.stringify({...localStorage})")
    assert "#connection=stripe_identity_default" in link
    assert not any("ann" in text or stripe.api_key in text for text in (link, kept))
    page.open(link[link.index("#") :])
    page.send()
    assert dict(stripe.requests[-1].query) == QUERY


def test_light_and_dark_as_airflow_is(page, driver):
    theme = "return document.documentElement.dataset.theme"
    for wanted, other in (("dark", "light"), ("light", "dark")):
        driver.switch_to.default_content()
        driver.execute_script(f"document.documentElement.classList.replace('{other}', '{wanted}')")
        page.enter()
        page.until(lambda wanted=wanted: driver.execute_script(theme) == wanted)


def test_a_picture_for_the_docs(page, driver, stripe, tmp_path):
    """``EXPLORER_PNG=docs/explorer.png pytest tests/e2e/test_explorer.py -k picture`` renews it."""
    statuses = ["verified", "requires_input", "processing", "verified", "canceled", "verified"]
    for number, status in enumerate(statuses):
        account = "cus_Q8aP1kVtW3xYz7"
        stripe.create_session(
            created=MAY_1 + 4271 * number,
            status=status,
            client_reference_id=f"user_{4100 + number}",
            related_customer=account,
        )
    driver.set_window_size(1360, 900)
    page.fill("created-kind", "interval")
    page.fill("created-start", "2026-05-01T00:00:00")
    page.fill("related_customer", account)
    driver.execute_script("document.querySelector('#request details').open = false")
    page.until(lambda: account in page.code("curl"))
    page.code("python")
    page.send()
    driver.execute_script("scrollTo(0, 0)")
    driver.switch_to.default_content()
    picture = Path(os.environ.get("EXPLORER_PNG", tmp_path / "explorer.png"))
    picture.write_bytes(driver.get_screenshot_as_png())
    page.enter()
    assert picture.stat().st_size < 300_000
    driver.set_window_size(900, 900)
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    driver.set_window_size(1280, 1000)


def test_it_works_below_a_path_behind_a_proxy(stripe, tmp_path):
    """Nothing outside of the path is asked for, the addresses in snippets are the proxy's, and the login holds."""
    with ReverseProxy("/team/airflow") as proxy, chromium(tmp_path / "profile") as driver:
        env = ENABLED | {"AIRFLOW__API__BASE_URL": proxy.url}
        home = tmp_path / "airflow"
        with AirflowStack(home, tmp_path, env, components=["api-server"], base_path=proxy.path) as airflow:
            proxy.target = airflow.url.removesuffix(proxy.path)
            airflow.post(
                "connections",
                {"connection_id": "below", "conn_type": "stripe_identity", "host": stripe.url, "password": "sk_test_1"},
            )
            stripe.api_keys["sk_test_1"] = stripe.api_keys[stripe.api_key]
            page = ExplorerPage(driver, proxy.url)
            page.open()
            assert page.errors() == []
            fill_all(page)
            page.send()
            assert "200" in page.answered()
            curl = page.copied("curl")
            assert f"{proxy.url}/stripe-identity/connections/below/v1/identity/verification_sessions" in curl
            token = requests.get(f"{proxy.url}/auth/token", timeout=30).json()["access_token"]
            environment = os.environ | {"AIRFLOW_TOKEN": token}
            subprocess.run(["bash", "-euc", f"{curl} --fail"], env=environment, check=True, capture_output=True)
            assert [dict(request.query) for request in stripe.requests] == [QUERY, QUERY]
            link = driver.execute_script("return parent.location.href")
            assert link.startswith(f"{proxy.url}/plugin/stripe-identity")
            page.open(link[link.index("#") :])
            page.send()
            assert dict(stripe.requests[-1].query) == QUERY
            assert page.errors() == []
            # Airflow 3.2 itself asks for its version there.
            assert not [path for path in proxy.strays if "stripe-identity" in path]


# Every snippet, copied and run


@pytest.mark.parametrize("kind", ["curl", "python", "typescript", "hook", "dag"])
def test_a_copied_snippet_is_the_same_request(page, stripe, airflow, token, tmp_path, kind):
    fill_all(page)
    page.send()
    (sent,) = [dict(request.query) for request in stripe.requests]
    assert sent == QUERY
    snippet = page.copied(kind)
    assert stripe.api_key not in snippet
    assert token not in snippet
    stripe.requests.clear()
    environment = os.environ | {"AIRFLOW_TOKEN": token}
    if kind == "curl":
        subprocess.run(["bash", "-euc", f"{snippet} --fail"], env=environment, check=True, capture_output=True)
    elif kind == "python":
        subprocess.run([sys.executable, "-c", snippet], env=environment, check=True, capture_output=True)
    elif kind == "typescript":
        run_typescript(snippet, tmp_path, environment)
    else:
        if kind == "hook":
            body = "\n".join(f"        {line}" for line in snippet.splitlines())
            head = "from airflow.sdk import dag, task\n\n@dag(schedule=None)\ndef verification_sessions():\n    @task\n"
            snippet = f"{head}    def read():\n{body}\n\n    read()\n\nverification_sessions()\n"
        snippet = snippet.replace("/tmp/verification_sessions", str(tmp_path))
        (tmp_path / "snippet.py").write_text(snippet)
        ran = run_dags_test("verification_sessions", home=airflow.home, dags=tmp_path)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    seen = [dict(request.query) for request in stripe.requests]
    if kind == "dag":  # it reads all pages, as large as they may be, in ranges of its own
        assert {query.pop("limit") for query in seen} == {"100"}
        sent = {name: value for name, value in sent.items() if name != "limit"}
    assert seen
    assert all(query == sent for query in seen)


def run_typescript(snippet: str, folder: Path, environment: dict[str, str]) -> None:
    """Check the types with TypeScript, and run it as it is."""
    assert shutil.which("npm"), "The tests of the TypeScript snippet need node and npm"
    packages = ["stripe@22", "typescript@5", "@types/node@20"]
    subprocess.run(["npm", "install", "--silent", "--no-package-lock", *packages], cwd=folder, check=True)
    for name in ("snippet.mts", "snippet.mjs"):
        (folder / name).write_text(snippet)
    options = "--noEmit --strict --skipLibCheck --module nodenext --target es2022 --types node"
    run("npx", "tsc", *options.split(), "snippet.mts", cwd=folder)
    run("node", "snippet.mjs", cwd=folder, env=environment)
    # The package's own paging, and one session.
    rest = """
    let count = 0;
    for await (const { id } of page) count += (await stripe.identity.verificationSessions.retrieve(id)).id === id;
    console.log(count);
    """
    start = snippet.split("for (const")[0].replace("= await stripe.", "= stripe.")
    (folder / "all.mjs").write_text(start + rest)
    run("node", "all.mjs", cwd=folder, env=environment)


def run(*command: str, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# From outside


@pytest.mark.alone
def test_a_stripe_that_hangs_does_not_take_the_api_server_down(airflow, stripe, token):
    """50 callers at once; Airflow's own health is asked for meanwhile."""
    idle = health.took(health.watch(airflow.url, 5))
    stripe.fault_every(1, Fault.delay(60))
    address = f"{airflow.url}/stripe-identity/connections/other{SESSIONS}"
    headers = {"Authorization": f"Bearer {token}"}

    def ask(_: int) -> requests.Response:
        return requests.get(address, headers=headers, timeout=90)

    watching = health.watch(airflow.url, 15)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    busy = [answer for answer in answers if answer.status_code == 503]
    late = [answer for answer in answers if answer.status_code == 504]
    assert len(busy) + len(late) == 50
    assert 1 <= len(late) == len(stripe.requests) < 50
    assert {answer.headers["Retry-After"] for answer in busy} == {"5"}
    slowest = health.took(watching)[-1]
    # A second; on a machine that is busy with other things, as long as it takes without these callers.
    assert slowest < max(1, 4 * idle[-1])
    stripe.clear_faults()
    assert ask(0).status_code == 200


@pytest.mark.parametrize("enabled", [None, "False"])
def test_it_is_off_unless_switched_on(tmp_path, enabled):
    env = {name: enabled for name in ENABLED if enabled}
    with AirflowStack(tmp_path / "airflow", tmp_path, env, components=["api-server"]) as off:
        for path in ("connections", f"connections/x{SESSIONS}", "explorer.js"):
            answer = requests.get(f"{off.url}/stripe-identity/{path}", timeout=30)
            assert answer.status_code == 404 or "<title>Airflow" in answer.text
        plugins = off.get("plugins", limit=100)["plugins"]
        (plugin,) = [plugin for plugin in plugins if plugin["name"] == "stripe_identity_explorer"]
        assert plugin["external_views"] == plugin["fastapi_apps"] == []

"""The emulator's verification page in Chromium."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select
from support.browser import chromium, wait_for_text

from airflow_provider_stripe_identity.testing import StripeIdentityServer


@pytest.mark.timeout(300)
def test_a_developer_is_the_person(tmp_path):
    with StripeIdentityServer() as server, chromium(tmp_path) as browser:
        session = server.create_session(client_reference_id="user_123")
        browser.get(session["url"])
        Select(browser.find_element(By.NAME, "code")).select_by_value("selfie_face_mismatch")
        browser.find_element(By.XPATH, "//button[.='Fail']").click()
        wait_for_text(browser, "state", "try again")
        assert next(server.sessions())["last_error"]["code"] == "selfie_face_mismatch"
        browser.find_element(By.XPATH, "//button[.='Verify']").click()
        wait_for_text(browser, "state", "verified")
        assert next(server.sessions())["status"] == "verified"
        assert browser.get_log("browser") == []
        loaded = browser.execute_script("return performance.getEntries().map(entry => entry.name)")
        hosts = {urlsplit(name).netloc for name in loaded if name.startswith("http")}
        assert hosts <= {urlsplit(server.url).netloc}

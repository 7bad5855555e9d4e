"""The page's files: Stripe's own words, nothing from elsewhere, and headers that forbid it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from support.paths import ROOT

from airflow_provider_stripe_identity._explorer.queries import LIST_PARAMETERS

PAGE = ROOT / "airflow_provider_stripe_identity" / "_explorer" / "page"
SPECIFICATION = ROOT.parent / "shared" / "stripe" / "identity-openapi.json"


class Inputs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.inline: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("input", "select", "fieldset") and given.get("name"):
            self.names.add(given["name"])
        if tag == "style" or (tag == "script" and "src" not in given) or any(name.startswith("on") for name in given):
            self.inline.append(self.get_starttag_text())


def test_all_nine_parameters_are_in_the_form_and_no_script_is_inline():
    page = Inputs()
    page.feed((PAGE / "index.html").read_text())
    assert page.names - {"connection"} == set(LIST_PARAMETERS) - {"created"}
    assert page.inline == []


def test_nothing_comes_from_another_host():
    for file in PAGE.iterdir():
        text = file.read_text()
        assert set(re.findall(r"https?://[\w.]+", text)) <= {"https://dashboard.stripe.com"}
        assert "innerHTML" not in text


@pytest.mark.skipif(not SPECIFICATION.exists(), reason="Stripe's specification is not here")
@pytest.mark.parametrize("name", sorted({*LIST_PARAMETERS} - {"starting_after", "ending_before"}))
def test_the_descriptions_are_stripes(name):
    parameters = json.loads(SPECIFICATION.read_text())["paths"]["/v1/identity/verification_sessions"]["get"][
        "parameters"
    ]
    (described,) = [parameter["description"] for parameter in parameters if parameter["name"] == name]
    shown = " ".join((PAGE / "index.html").read_text().split())
    assert described.split(" [Learn more")[0] in shown


def test_the_page_and_its_files_have_their_headers(browse):
    for path, kind in (("", "text/html"), ("explorer.js", "text/javascript"), ("explorer.css", "text/css")):
        answer = browse(path, user=None)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_snippets_are_for_those_who_may_use_the_connection_and_name_what_is_wrong(browse, stripe_identity_server):
    address = "connections/any/snippets?base_url=https://airflow.example.com/base/stripe-identity/"
    assert browse(address, user=None).status_code == 401
    assert browse(address, user="vera").status_code == 403
    snippets = browse(f"{address}&limit=3").json()
    assert set(snippets) == {"curl", "hook", "dag", "python", "typescript"}
    assert "https://airflow.example.com/base/stripe-identity/connections/any" in snippets["python"]
    assert "limit must be" in browse(f"{address}&limit=500").json()["error"]["message"]
    assert not stripe_identity_server.requests


def test_provided_details_are_asked_for_where_each_way_can(browse):
    address = "connections/any/snippets?base_url=https://airflow.example.com/&expand[]=data.provided_details"
    snippets = browse(address).json()
    assert "data.provided_details" in snippets["curl"]
    assert "expand" not in snippets["hook"]
    assert "'provided_details']" in snippets["dag"]

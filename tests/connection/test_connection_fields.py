"""What is wrong with a connection is named at once, without a request, and without what may be an API key."""

from __future__ import annotations

import inspect
import json
import logging
import re

import pytest
from packaging.version import Version
from support.airflow_versions import AIRFLOW
from support.paths import ROOT

from airflow_provider_stripe_identity._connection import client as client_module
from airflow_provider_stripe_identity._connection.form import CONN_FIELDS, UI_FIELD_BEHAVIOUR
from airflow_provider_stripe_identity._stripe_api.client import DEFAULT_API_VERSION, StripeIdentityClient

KEY = "sk_live_" + "marked0key0of0this0test"

WRONG = {
    "timeout NaN": ({"extra": {"timeout": float("nan")}}, "timeout must be a number from 0.01 to 3600, not nan"),
    "timeout NaN as text": ({"extra": {"timeout": "nan"}}, "timeout must be"),
    "timeout without end": ({"extra": {"timeout": float("inf")}}, "timeout must be.*not inf"),
    "timeout beyond every socket": ({"extra": {"timeout": 1e12}}, "timeout must be"),
    "timeout yes": ({"extra": {"timeout": True}}, "timeout.*must be a number"),
    "timeout in a list": ({"extra": {"timeout": [30]}}, "timeout.*must be a number"),
    "timeout a word": ({"extra": {"timeout": "soon"}}, "timeout.*must be a number"),
    "timeout a key": ({"extra": {"timeout": KEY}}, "timeout.*must be a number"),
    "retries without end": ({"extra": {"max_retries": float("inf")}}, "max_retries must be a whole number"),
    "half a retry": ({"extra": {"max_retries": 1.5}}, "max_retries must be a whole number"),
    "an outage without end": ({"extra": {"max_outage": "1e999"}}, "max_outage must be"),
    "an outage before now": ({"extra": {"max_outage": -1}}, "max_outage must be"),
    "a rate that is none": ({"extra": {"max_requests_per_second": float("nan")}}, "max_requests_per_second must be"),
    "a rate without end": ({"extra": {"max_requests_per_second": "inf"}}, "max_requests_per_second must be"),
    "threads without end": ({"extra": {"max_concurrency": float("inf")}}, "max_concurrency must be.*from 1 to 100"),
    "no thread": ({"extra": {"max_concurrency": 0}}, "max_concurrency must be"),
    "an integer of 400 digits": ({"extra": {"timeout": 10**400}}, "timeout must be"),
    "a list of accounts": ({"extra": {"stripe_account": ["acct_1"]}}, "stripe_account.*must be a text, not list"),
    "an empty list": ({"extra": {"stripe_account": []}}, "stripe_account.*must be a text, not list"),
    "a context that is an object": ({"extra": {"stripe_context": {"id": "x"}}}, "stripe_context.*text, not dict"),
    "a version that is a number": ({"extra": {"api_version": 2026.07}}, "api_version.*text, not float"),
    "a version that is false": ({"extra": {"api_version": False}}, "api_version.*text, not bool"),
    "a blank after the account": (
        {"extra": {"stripe_account": "acct_1 "}},
        "stripe_account.*without leading or trailing spaces",
    ),
    "an extra that is a list": ({"extra": [1]}, "extra: it must be a JSON object"),
    "an extra that is no JSON": ({"extra": "{timeout: 30}"}, "extra: it must be a JSON object"),
    "a misspelled extra": ({"extra": {"timout": 30}}, "timout is unknown; did you mean timeout"),
    "the misspelled account": ({"extra": {"stripe_acount": "acct_1"}}, "did you mean stripe_account"),
    "the key in the login": ({"login": KEY, "password": None}, "login: the API key belongs in the connection's pass"),
    "a blank after the host": ({"host": "https://api.stripe.com "}, "host contains a space"),
    "a blank before the host": ({"host": " https://api.stripe.com"}, "host contains a space"),
    "a line break after the host": ({"host": "https://api.stripe.com\n"}, "host contains a space, a line break"),
    "a port that is a word": ({"host": "https://gw.example.com:https"}, "host.*port.*from 1 to 65535"),
    "a port that is a word, and another": ({"host": "https://gw.example.com:https", "port": 443}, "host.*port"),
    "port 0": ({"host": "https://gw.example.com:0"}, "host.*port.*from 1 to 65535"),
    "port 99999": ({"host": "https://gw.example.com:99999"}, "host.*port.*from 1 to 65535"),
    "port 99999 apart": ({"host": "https://gw.example.com", "port": 99999}, "host.*port.*from 1 to 65535"),
    "half an IPv6 address": ({"host": "https://[::1"}, "host"),
    "two dots in the host": ({"host": "https://gw..example.com"}, "host is not a valid host name"),
    "the key as port": ({"host": f"https://gw.example.com:{KEY}"}, "host contains an API key"),
    "the key as port, and another": (
        {"host": f"https://gw.example.com:{KEY}", "port": 443},
        "host contains an API key",
    ),
    "the key as host": ({"host": KEY}, "host contains an API key"),
    "the key as user": ({"host": f"https://{KEY}@api.stripe.com"}, "host contains an API key"),
    "the key in the path": ({"host": f"https://gw.example.com/{KEY}"}, "host contains an API key"),
    "another secret as port": ({"host": "https://gw.example.com:hunter2"}, "host.*port"),
    "another secret as user": ({"host": "https://me:hunter2@gw.example.com"}, "host.*no user"),
}


@pytest.mark.parametrize(("fields", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_and_no_key_repeated(make_connection, fields, said, caplog):
    if Version("3.2") > AIRFLOW and said.startswith("extra:"):
        pytest.skip("Airflow before 3.2 finds no connection whose extra is no JSON object")
    connection = {"conn_type": "stripe_identity", "password": "sk_test_x", **fields}
    with caplog.at_level(logging.DEBUG, logger="airflow_provider_stripe_identity"):
        with pytest.raises(ValueError, match=said) as raised:
            make_connection(json.dumps(connection)).get_conn()
        worked, message = make_connection(json.dumps(connection)).test_connection()
    assert (worked, message) == (False, str(raised.value))
    assert raised.value.__cause__ is None
    for secret in (KEY, KEY[8:], "hunter2"):
        assert secret not in message + caplog.text


@pytest.mark.parametrize("conn_type", ["stripe_identity", "stripe-identity"])
@pytest.mark.parametrize("rest", [f":{KEY}@", f":{KEY}@https%3A%2F%2Fgw.example.com/?timeout=30"])
def test_the_scheme_of_a_uri_has_a_hyphen(make_connection, conn_type, rest):
    hook = make_connection(f"{conn_type}://{rest}")
    if conn_type == "stripe-identity":
        assert hook.client.has_key
        return
    with pytest.raises(ValueError, match=r"begins with stripe-identity:// \(a hyphen\)") as raised:
        hook.get_conn()
    assert KEY not in str(raised.value)


def test_the_command_line_says_so_too(make_connection):
    """It reads connections through Airflow's own model, which parses a URI by itself."""
    from airflow.models import Connection

    make_connection(f"stripe_identity://:{KEY}@")
    with pytest.raises(ValueError, match="stripe-identity://"):
        client_module.client_from_connection(Connection.get_connection_from_secrets("made"))


def test_an_extra_of_somebody_else_is_named_once_and_left_alone(make_connection, caplog):
    client_module._warn_of_unknown.cache_clear()
    extra = {"owner": "marked_value", "team": 1, "timeout": 30}
    for _ in range(2):
        make_connection(json.dumps({"password": "sk_test_x", "extra": extra})).get_conn()
    (warning,) = [record for record in caplog.records if record.name == client_module.__name__]
    assert "owner, team. Known are api_version, stripe_account" in warning.getMessage()
    assert "marked_value" not in warning.getMessage()


@pytest.mark.parametrize("value", [30, 30.0, "30", "30.0"])
def test_a_whole_number_may_be_written_in_every_way(make_connection, value):
    extra = {"max_retries": value, "max_concurrency": value}
    client = make_connection(json.dumps({"password": "sk_test_x", "extra": extra})).client
    assert (client._max_retries, client.max_concurrency) == (30, 30)


def test_the_form_names_both_permissions():
    hint = UI_FIELD_BEHAVIOUR["placeholders"]["password"]
    assert "Verification Sessions" in hint
    assert "Events" in hint


def test_the_docs_have_every_extra_and_its_default():
    text = (ROOT / "docs" / "connection.md").read_text()
    rows = dict(re.findall(r"^\| extra `(\w+)` .* \| (.*?) ?\|$", text, re.MULTILINE))
    assert rows.keys() == CONN_FIELDS.keys()
    defaults = inspect.signature(StripeIdentityClient).parameters
    for name in ("timeout", "max_retries", "max_outage", "max_requests_per_second", "max_concurrency"):
        assert float(rows[name]) == defaults[name].default
    assert rows["api_version"] == f"`{DEFAULT_API_VERSION}`"

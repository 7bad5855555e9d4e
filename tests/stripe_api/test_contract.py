"""Every request that the package can send is valid against Stripe's specification."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support.paths import STRIPE_SPECIFICATION

from airflow_provider_stripe_identity._stripe_api.parameters import EVENT_TYPES, STATUSES
from airflow_provider_stripe_identity.exceptions import StripeInvalidRequestError
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.testing import StripeIdentityServer

pytestmark = pytest.mark.skipif(not STRIPE_SPECIFICATION.is_file(), reason="needs Stripe's specification")


@pytest.fixture(scope="module")
def server():
    """A server that answers whatever is valid, on an account where nothing is found."""
    with StripeIdentityServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        yield server


@pytest.fixture(scope="module")
def paths():
    """The specification's endpoints."""
    return json.loads(STRIPE_SPECIFICATION.read_text())["paths"]


def decoded(query) -> dict:
    """A query string as the specification's ``deepObject`` and array parameters."""
    values: dict = {}
    for name, value in query:
        value = int(value) if value.isdigit() and name.startswith(("created", "limit")) else value
        if name.endswith("[]"):
            values.setdefault(name[:-2], []).append(value)
        elif nested := re.fullmatch(r"(\w+)\[(\w+)\]", name):
            values.setdefault(nested[1], {})[nested[2]] = value
        else:
            assert name not in values
            values[name] = value
    return values


def check_requests(server, paths):
    assert server.requests
    while server.requests:
        request = server.requests.popleft()
        route = next(path for path in paths if re.fullmatch(re.sub(r"{\w+}", "[^/]+", path), request.path))
        assert request.method == "GET"
        known = {parameter["name"]: parameter for parameter in paths[route]["get"]["parameters"]}
        for name, value in decoded(request.query).items():
            schema = known[name]["schema"]
            for closed in (schema, *schema.get("anyOf", ())):
                if closed.get("type") == "object":
                    closed["additionalProperties"] = False
            Draft202012Validator(schema).validate(value)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
times = st.integers(0, 4_000_000_000) | st.datetimes(
    datetime(2000, 1, 1),
    datetime(2090, 1, 1),
    timezones=st.just(UTC),
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "client_reference_id": texts,
        "status": st.sampled_from(STATUSES),
        "related_customer": texts,
        "related_customer_account": texts,
        "expand": st.lists(st.sampled_from(["data.verified_outputs", "data.last_verification_report"]), unique=True),
    },
)
unsupported = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
)


@given(
    filters=filters,
    created=st.none() | times | st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), times, max_size=2),
    limit=st.none() | st.integers(1, 100),
)
@unsupported
def test_pages(server, paths, filters, created, limit):
    try:
        StripeIdentityHook().list_verification_sessions_page(created=created, limit=limit, **filters)
    except ValueError:
        return  # the bounds are the wrong way round: nothing is sent
    check_requests(server, paths)


@given(filters=filters, bounds=st.lists(times, max_size=2), page_size=st.integers(1, 100))
@unsupported
def test_lists(server, paths, filters, bounds, page_size):
    created = dict(zip(["created_gte", "created_lt"], bounds, strict=False))
    try:
        list(StripeIdentityHook().list_verification_sessions(page_size=page_size, **created, **filters))
    except ValueError:
        return
    check_requests(server, paths)


@pytest.mark.parametrize("cursor", ["starting_after", "ending_before"])
def test_cursors(server, paths, cursor):
    with pytest.raises(StripeInvalidRequestError, match=cursor):
        list(StripeIdentityHook().list_verification_sessions(**{cursor: "vs_unknown"}))
    check_requests(server, paths)


@given(types=st.lists(st.sampled_from(EVENT_TYPES), min_size=1, unique=True), bounds=st.lists(times, max_size=1))
@unsupported
def test_events(server, paths, types, bounds):
    created = dict(zip(["created_gte"], bounds, strict=False))
    list(StripeIdentityHook().list_events(types=types, **created))
    check_requests(server, paths)


def test_retrieve_and_connection_test(server, paths):
    session = server.create_session(account="acct_1")
    hook = StripeIdentityHook(stripe_account="acct_1")
    hook.get_verification_session(session["id"], expand=["verified_outputs"])
    hook.test_connection()
    check_requests(server, paths)

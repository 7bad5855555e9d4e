"""Rows hold what was asked for, as Stripe sent it, and no secret."""

from __future__ import annotations

import gzip
import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_stripe_identity._export import jsonl
from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity._export.jsonl import JsonLines
from airflow_provider_stripe_identity.exceptions import StripeAPIError

SESSION = {
    "id": "vs_1",
    "object": "identity.verification_session",
    "client_reference_id": "user_1",
    "client_secret": "vs_1_secret_x",
    "created": 1_767_268_800,
    "last_error": None,
    "last_verification_report": "vr_1",
    "livemode": False,
    "metadata": {"note": 'Zoë \u2028 "quoted" \\ \n 漢字'},
    "options": {"document": {"require_matching_selfie": True}},
    "provided_details": {"email": "jenny@example.com"},
    "redaction": None,
    "status": "verified",
    "type": "document",
    "url": "https://verify.stripe.com/start/x",
    "verified_outputs": {"first_name": "Jenny"},
}


def written(lines: JsonLines, *sessions, compress=False) -> bytes:
    file = io.BytesIO()
    lines.write(sessions, file, compress=compress)
    return file.getvalue()


def row(session=SESSION, *arguments, **named):
    return json.loads(written(JsonLines(*arguments, **named), session))


def test_the_default_fields_hold_nothing_secret_or_personal():
    assert row() == {name: value for name, value in SESSION.items() if name in DEFAULT_FIELDS}
    assert not {"client_secret", "url", "provided_details", "verified_outputs"} & row().keys()


def test_keys_come_in_stripes_order_whatever_order_the_fields_are_named_in():
    assert list(row(SESSION, ["type", "id", "created"])) == ["id", "created", "type"]


def test_personal_fields_are_written_when_named_or_expanded():
    assert row(SESSION, ["id", "provided_details"])["provided_details"] == {"email": "jenny@example.com"}
    assert row(expand=["verified_outputs"])["verified_outputs"] == {"first_name": "Jenny"}


def test_all_is_everything_but_the_secrets():
    assert row({**SESSION, "brand_new": 1}, "all").keys() == {*SESSION, "brand_new"} - {"client_secret", "url"}


def test_a_report_that_nobody_asked_to_expand_stays_an_id():
    session = {**SESSION, "last_verification_report": {"id": "vr_9", "document": {"first_name": "Jenny"}}}
    assert row(session)["last_verification_report"] == "vr_9"
    assert row(session, "all")["last_verification_report"] == "vr_9"
    expanded = row(session, expand=["last_verification_report"])
    assert expanded["last_verification_report"]["document"] == {"first_name": "Jenny"}


def test_an_unknown_field_is_named_once(caplog):
    lines = JsonLines()
    with caplog.at_level(logging.WARNING):
        rows = written(lines, *[{**SESSION, "brand_new": "personal?"}] * 3)
    assert b"brand_new" not in rows
    assert [record.getMessage() for record in caplog.records] == [
        "Stripe sends a field this provider does not know, not written: brand_new"
    ]


def test_extra_columns_are_merged_into_every_row():
    assert row(extra_columns={"_exported_at": "2026-01-01"})["_exported_at"] == "2026-01-01"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"fields": "id"}, "fields must be a list"),
        ({"fields": []}, "fields"),
        ({"fields": ["id", ""]}, "fields"),
        ({"fields": ["id", "client_secret", "url"]}, "client_secret and url .* never written"),
        ({"extra_columns": {"id": 1}}, "extra_columns: id"),
        ({"extra_columns": {1: 1}}, "extra_columns"),
        ({"extra_columns": "x"}, "extra_columns"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        JsonLines(**arguments)


def test_the_figures_of_what_was_turned():
    lines = JsonLines()
    facts = ((30, "verified"), (20, "canceled"), (20, "verified"))
    written(lines, *({"id": "vs", "created": created, "status": status} for created, status in facts))
    assert (lines.sessions, lines.oldest, lines.newest) == (3, 20, 30)
    assert lines.statuses == {"verified": 2, "canceled": 1}


def test_what_is_nested_too_deeply_is_an_error_of_the_packages():
    nested: list = []
    for _ in range(100_000):  # more than any Python's recursion takes
        nested = [nested]
    with pytest.raises(StripeAPIError, match="session vs_1 is nested too deeply"):
        written(JsonLines(), {**SESSION, "metadata": nested})


def test_a_field_name_cannot_begin_a_log_line(caplog):
    written(JsonLines(), {**SESSION, "x\n2026-01-01 ERROR \x1b[31m\u2028 forged": 1})
    assert caplog.messages == [
        "Stripe sends a field this provider does not know, not written: x 2026-01-01 ERROR  [31m  forged"
    ]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)


@given(metadata=json_values, options=json_values)
def test_values_survive_and_every_session_is_exactly_one_line(metadata, options):
    session = {"id": "vs_1", "created": 1, "metadata": metadata, "options": options}
    line = written(JsonLines(), session)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line) == session


def test_the_same_rows_compress_to_the_same_bytes(monkeypatch):
    def compressed(now):
        monkeypatch.setattr("time.time", lambda: now)
        return written(JsonLines(), *[SESSION] * 1000, compress=True)

    assert compressed(1.0) == compressed(2_000_000_000.0)
    assert gzip.decompress(compressed(1.0)) == written(JsonLines(), *[SESSION] * 1000)


@pytest.mark.parametrize("size", [1, 100, 10**6])
def test_the_pieces_in_which_rows_are_written_change_nothing(monkeypatch, size):
    monkeypatch.setattr(jsonl, "WRITE_BYTES", size)
    sessions = [{"id": f"vs_{number}", "created": number} for number in range(50)]
    assert [json.loads(line) for line in written(JsonLines(), *sessions).splitlines()] == sessions

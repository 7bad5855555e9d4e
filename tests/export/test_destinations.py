"""The name of an object may hold the run's window, and promises nothing that is not written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_stripe_identity._export.destinations import (
    check_destination,
    missing_part,
    name_of_window,
    next_run_replaces,
)
from airflow_provider_stripe_identity._export.windows import Window

DAY = Window(int(datetime(2026, 1, 15, tzinfo=UTC).timestamp()), int(datetime(2026, 1, 16, tzinfo=UTC).timestamp()))


@pytest.mark.parametrize(
    ("destination", "name"),
    [
        ("s3://lake/dt={created_gte:%Y-%m-%d}/sessions.jsonl.gz", "s3://lake/dt=2026-01-15/sessions.jsonl.gz"),
        ("s3://lake/{created_gte:%Y/%m/%d}-{created_lt:%j}.jsonl", "s3://lake/2026/01/15-016.jsonl"),
        ("s3://lake/{created_gte}-{created_lt}", "s3://lake/20260115T000000Z-20260116T000000Z"),
        ("s3://lake/sessions.2026.01.jsonl", "s3://lake/sessions.2026.01.jsonl"),
        ("s3://lake/v1.csv/sessions", "s3://lake/v1.csv/sessions"),
        ("s3://lake/100%/sessions", "s3://lake/100%/sessions"),
    ],
)
def test_a_name_holds_the_window_in_utc(destination, name):
    check_destination(destination)
    assert name_of_window(destination, DAY) == name


@pytest.mark.parametrize(
    ("destination", "said"),
    [
        ("s3://lake/{created:%Y}.jsonl", r"\{created:%Y\} is not known.\nDid you mean \{created_"),
        ("s3://lake/{ds}.jsonl", r"\{ds\} is not known"),
        ("s3://lake/{}.jsonl", r"\{\} is not known"),
        ("s3://lake/{created_gte:}.jsonl", "not a valid time format"),
        ("s3://lake/{created_gte:%Q}.jsonl", "because of %Q"),
        ("s3://lake/{created_gte:%B}.jsonl", "because of %B"),
        ("s3://lake/{created_gte:%Y-%}.jsonl", "because of %"),
        ("s3://lake/{created_gte:%Y.jsonl", "single braces"),
        ("s3://lake/created_gte}.jsonl", "single braces"),
        ("s3://lake/dt={{ created_gte:%Y-%m-%d }}/x.jsonl", r"Write \{created_gte:%Y-%m-%d\}, with single braces"),
        ("s3://lake/{{ ds }}/{oops}.jsonl", r"\{oops\} is not known"),
        ("s3://lake/{{ ds }}.parquet", r"\.parquet is not what is written"),
        ("s3://lake/x.CSV", r"\.csv is not"),
        ("s3://lake/x.json.zst", r"\.zst is not"),
    ],
)
def test_a_name_that_cannot_be_meant_is_refused_when_the_dag_is_parsed(destination, said):
    with pytest.raises(ValueError, match=f"(?s)^destination.*{said}"):
        check_destination(destination)


def test_what_jinja_renders_is_left_to_it():
    check_destination("{% if params.a %}s3://a{% else %}s3://b{% endif %}/{{ ds }}/{# note #}{created_gte:%H}.jsonl")
    check_destination("s3://lake/{{ {'a': 1}['a'] }}.jsonl")


@given(st.integers(0, 4_000_000_000), st.integers(1, 10**7))
def test_names_to_the_second_are_different_for_different_windows(start, length):
    window = Window(start, start + length)
    assert not next_run_replaces("s3://lake/{created_gte}.jsonl", window)
    assert next_run_replaces("s3://lake/sessions.jsonl", window)


@pytest.mark.parametrize(
    ("form", "length", "replaced"),
    [
        ("%Y-%m-%d", timedelta(days=1), False),
        ("%Y-%m-%d", timedelta(hours=1), True),
        ("%Y-%m", timedelta(days=1), True),
        ("%Y-%m-%dT%H", timedelta(hours=1), False),
    ],
)
def test_a_name_too_coarse_for_the_schedule_is_replaced_by_the_next_run(form, length, replaced):
    window = Window(DAY.created_gte, DAY.created_gte + int(length.total_seconds()))
    assert next_run_replaces(f"s3://lake/{{created_gte:{form}}}.jsonl", window) is replaced


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("{created_gte:%m-%d}", ("m", "Y")),
        ("{created_gte:%Y}/{created_gte:%d}", ("d", "m")),
        ("{created_gte:%H%M}", ("H", "d")),
        ("{created_gte:%Y-%m-%d}-{created_gte:%M}", ("M", "H")),
        ("{created_gte:%j}", ("j", "Y")),
        ("{created_gte:%Y-%V}", ("V", "G")),
        ("{created_gte:%G-%V}/{created_gte:%u}", None),
        ("{created_gte:%Y/%m}/{created_lt:%d}", None),
        ("{created_gte:%y%j}T{created_lt:%H%M%S}", None),
        ("{created_gte:%Y}", None),
        ("{created_gte}-{created_lt:%H}", None),
        ("{{ ds }}-{created_gte:%H}", None),
        ("sessions", None),
    ],
)
def test_a_name_that_comes_again_lacks_a_part(name, missing):
    assert missing_part(f"s3://lake/{name}.jsonl") == missing


@given(st.lists(st.sampled_from("YymdHjGVu"), min_size=1, max_size=5, unique=True), st.integers(0, 10_000))
def test_days_whose_names_lack_nothing_are_named_once_in_a_century(directives, day):
    """Of names as fine as a day."""
    name = f"s3://lake/{{created_gte:{'-'.join(f'%{one}' for one in directives)}}}"
    if missing_part(name) or not {"d", "j", "u"} & {*directives}:
        return
    start = DAY.created_gte + day * 86_400
    named = name_of_window(name, Window(start, start + 86_400))
    for later in (1, 7, 28, 30, 31, 364, 365, 366, 371, 728, 1461, 10_000, 36_000):
        assert name_of_window(name, Window(start + later * 86_400, start + (later + 1) * 86_400)) != named

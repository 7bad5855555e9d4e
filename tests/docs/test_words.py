"""Phrases that readers stumble over stay out of pages, docstrings, messages and comments."""

from __future__ import annotations

import re

import pytest
from support.pages import PAGES
from support.paths import ROOT

#: Phrase, and what to write instead.
INSTEAD = {
    r"\banew\b": "again",
    r"belongs? into": "belong in",
    r"(requests|sessions) a (second|request)": "per",
    r"(row|line) an? (session|event|day)": "one row per",
    r"embedded server|testing server": "emulator",
    r"holds? a blank": "contains a space",
    r"\bever (less often|more rarely)": "less and less often",
    r"no whole answer": "no complete response",
    r"\b(an|the|no|every|whole) answer\b": "response",
    r"goes with the process": "is deleted when the process exits",
    r"\bhears of\b": "receives",
    r"starts afresh": "starts with new events only",
    r"be told from": "be detected",
}
FILES = sorted(
    [
        *PAGES,
        ROOT / "CHANGELOG.md",
        *(ROOT / "airflow_provider_stripe_identity").rglob("*.py"),
        *(ROOT / "dags_examples").rglob("*.py"),
    ]
)


@pytest.mark.parametrize(("phrase", "instead"), INSTEAD.items())
def test_the_phrase_is_not_used(phrase, instead):
    found = [str(path.relative_to(ROOT)) for path in FILES if re.search(phrase, path.read_text())]
    assert not found, f"write: {instead}"

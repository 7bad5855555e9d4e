"""Every message that the troubleshooting page quotes is one of the package's."""

from __future__ import annotations

import ast
import re

import pytest
from support.paths import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
#: Quoted from Airflow.
AIRFLOWS = {'"Bad Request"', "'data_interval_start' is undefined"}
QUOTED = [found for found in re.findall(r"^\| `([^`]+)`", PAGE, re.MULTILINE) if found not in AIRFLOWS]


def texts() -> list[str]:
    """Return the string literals of the package; a replacement field of an f-string is {}."""
    found = []
    for module in (ROOT / "airflow_provider_stripe_identity").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


TEXTS = texts()


def test_the_page_quotes_messages():
    assert len(QUOTED) > 30


@pytest.mark.parametrize("message", QUOTED)
def test_the_message_is_in_the_code(message):
    assert any(message in text for text in TEXTS)

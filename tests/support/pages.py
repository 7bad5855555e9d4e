"""The pages that users read, and the code blocks on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.paths import ROOT

PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md")),
        *(ROOT / "docs").glob("*.md"),
    ]
)


class Block(NamedTuple):
    """A fenced code block of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, those inside of lists too, but not Sphinx's directives."""
    text = page.read_text()
    for found in re.finditer(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2$", text, re.MULTILINE | re.DOTALL):
        indent, _, language, body = found.groups()
        if language.startswith("{"):
            continue
        lines = [line.removeprefix(indent) for line in body.splitlines(keepends=True)]
        number = text[: found.start()].count("\n") + 1
        yield Block(str(page.relative_to(ROOT)), number, language.strip(), "".join(lines))


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def blocks(language: str, page: str | None = None) -> list[Block]:
    """Return the blocks of a language, of all pages or of one."""
    return [block for block in BLOCKS if block.language == language and page in (None, block.page)]

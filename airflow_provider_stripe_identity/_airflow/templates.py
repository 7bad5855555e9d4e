"""What a template leaves where it finds no value."""

from __future__ import annotations

from typing import Any


def warn_of_none(log: Any, **arguments: str | None) -> None:
    """Name the templated arguments that are the text ``None``: a filter by it finds nothing, and is no error."""
    for name, value in arguments.items():
        if value == "None":
            log.warning(f"{name} is the text None, as Jinja writes it where a template finds no value")

"""
What a package index shows: the README with links that work there, and the project's addresses.

``PROJECT_URL`` is the address of the repository (the release workflow sets it). Without it nothing is known that a link
within the repository could lead to, so its words stay and the link goes, and so do pictures.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

WITHIN = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")


class PackageIndexHook(MetadataHookInterface):
    """Adds the README, and the addresses where there are any."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Change the metadata in place."""
        root = Path(self.root)
        found = re.search('__version__ = "(.+)"', (root / "airflow_provider_stripe_identity/__init__.py").read_text())
        url = os.environ.get("PROJECT_URL", "").rstrip("/")
        files = f"{url}/blob/v{found[1]}" if url and found else ""
        text = readme_of_index((root / "README.md").read_text(), files)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        if files:
            metadata["urls"] = {
                "Repository": url,
                "Documentation": f"{files}/docs/index.md",
                "Changelog": f"{files}/CHANGELOG.md",
            }


def readme_of_index(text: str, files: str) -> str:
    """
    Return a README whose links within the repository lead there from anywhere.

    :param files: address below which the repository's files are shown; empty if there is none
    """

    def link(found: re.Match[str]) -> str:
        is_picture, words, path = found.groups()
        if not files:
            return "" if is_picture else words
        if is_picture:
            return f"![{words}]({files.replace('/blob/', '/raw/')}/{path})"
        return f"[{words}]({files}/{path})"

    return WITHIN.sub(link, text)

"""Metadata of a build: absolute links in the README and the project's addresses, if the repository's address is given.

The variable TCS_EDGE_REPOSITORY, such as https://github.com/OWNER/NAME, gives it; `ci/release.sh` requires it. A build
without the variable keeps the relative links, which package indexes cannot follow.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "TCS_EDGE_REPOSITORY"
PICTURES = (".png", ".svg", ".jpg")


class Metadata(MetadataHookInterface):
    """Fill in `readme` and `urls`."""

    def update(self, metadata: dict) -> None:
        """Set the README, and with a repository the project's addresses."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = os.environ.get(VARIABLE, "").rstrip("/")
        metadata["urls"] = {"Paper": "https://arxiv.org/abs/2412.09388"}
        if repository:
            tag = f"v{metadata['version']}"
            text = absolute_links(text, repository, tag)
            metadata["urls"] |= {
                "Homepage": repository,
                "Source": repository,
                "Documentation": f"{repository}/blob/{tag}/docs/index.md",
                "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
                "Issues": f"{repository}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def absolute_links(text: str, repository: str, tag: str) -> str:
    """Return Markdown whose relative links lead to the files of a tag; pictures lead to their content."""

    def absolute(found: re.Match[str]) -> str:
        start, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        kind = "raw" if target.lower().endswith(PICTURES) else "blob"
        return f"{start}{repository}/{kind}/{tag}/{target})"

    return re.sub(r"(\]\()([^)\s]+)\)", absolute, text)

"""Addresses of runs on the hub: hf://USER/NAME, with an optional revision."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tcs_edge.errors import UsageError, short

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_-]|[.](?![.]))*"
_ADDRESS = re.compile(rf"hf://({_NAME}/{_NAME})(?:@([\w][\w./-]*))?", re.ASCII)
LONGEST = 96  # characters of a repository, by the rules of the hub
FORM = "hf://USER/NAME or hf://USER/NAME@REVISION"


@dataclass(frozen=True)
class Address:
    """A repository of the hub.

    Attributes:
        repo: "USER/NAME".
        revision: branch, tag or commit; None for the default branch.
    """

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repo}" + (f"@{self.revision}" if self.revision else "")


def parse_address(text: str) -> Address:
    """Parse hf://USER/NAME or hf://USER/NAME@REVISION.

    Raises:
        UsageError: another form.
    """
    found = _ADDRESS.fullmatch(text)
    if not found or len(found[1]) > LONGEST or ".." in (found[2] or ""):
        raise UsageError(f"{short(text, 120)} is not an address of the hub. Pass {FORM}.")
    return Address(found[1], found[2])

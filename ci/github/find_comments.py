#!/usr/bin/env python3
"""Print the ids of the gate's own comments, newest first.

    gh api --paginate repos/OWNER/NAME/issues/NUMBER/comments | python3 find_comments.py FILE

Standard input is one JSON list per page, one after another. A comment is the gate's own if it starts with a verdict
as a heading and its last line is the marker, the last line of FILE. The author does not matter: a bot, an app and a
personal token post the same comment. A comment that quotes the marker has it elsewhere, or has another beginning.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

MARKER = re.compile(r"<!-- tcs-edge-gate: [A-Za-z0-9._/ -]+ -->")
VERDICT = re.compile(r"### \S+ (pass|warn|fail): ")


def main() -> int:
    """Return 0; or 2 if the last line of FILE is not a marker."""
    marker = last_line(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if not MARKER.fullmatch(marker):
        print(f"error: the last line of {sys.argv[1]} is not a marker of the gate: {marker!r}", file=sys.stderr)
        return 2
    found = [comment["id"] for comment in pages(sys.stdin.buffer.read().decode("utf-8")) if is_own(comment, marker)]
    for number in sorted(found, reverse=True):
        print(number)
    return 0


def pages(text: str) -> list[dict]:
    """Return the comments of all pages."""
    comments: list[dict] = []
    while text := text.lstrip():
        page, end = json.JSONDecoder().raw_decode(text)
        comments += page
        text = text[end:]
    return comments


def is_own(comment: dict, marker: str) -> bool:
    """Return True if the gate wrote this comment, for the same model and target."""
    body = comment.get("body") or ""
    return bool(VERDICT.match(body)) and last_line(body) == marker


def last_line(text: str) -> str:
    """Return the last line with any text; empty without one."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


if __name__ == "__main__":
    sys.exit(main())

"""docs/reference/refusals.md: every test of the table exists, and every message is in the source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/reference/refusals.md"
CODES = {"0", "1", "2", "3", "4"}  # of errors.py, and 0


def rows() -> list[tuple[str, str, str]]:
    """Message, exit code and test of every row."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "::" in line]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return [(message, code, test.strip("`")) for *_, message, code, test in cells]


@pytest.fixture(scope="module")
def source() -> str:
    """All code, with texts that go over several lines joined."""
    joined = re.compile(r'"\s*\n\s*f?"')
    return "".join(joined.sub("", path.read_text(encoding="utf-8")) for path in (ROOT / "tcs_edge").rglob("*.py"))


def test_the_page_has_rows() -> None:
    assert len(rows()) > 40


@pytest.mark.parametrize(("message", "code", "test"), rows(), ids=lambda part: part[-40:])
def test_a_row_is_true(message: str, code: str, test: str, source: str) -> None:
    assert code in CODES
    file, name = test.split("::")
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
    for text in re.findall(r"`([^`]+)`", message):
        assert text in source

"""Links, anchors and navigation of the Markdown pages, and a strict build of the documentation site."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tcs_edge.specs.config import CompressConfig

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [page for folder in ("docs", "examples") for page in sorted((ROOT / folder).rglob("*.md"))]
PAGES += sorted(ROOT.glob("*.md"))
TABLES = ("tcs", "kd", "dkd", "int8", "train")


def prose(page: Path) -> str:
    """Return the page without fenced code and comments."""
    return re.sub(r"^```.*?^```|<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    """Return the targets of the page's links and images that lead to files of the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the page's headings, as Markdown viewers form them."""
    titles = re.findall(r"^#+ (.+?)\s*$", prose(page), flags=re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


def nav_pages(entry: Any) -> list[Path]:
    """Return every page of a nav entry of mkdocs.yml, at any depth."""
    if isinstance(entry, str):
        return [DOCS / entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in nav_pages(part)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_resolves(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_list_follows_a_blank_line(page: Path) -> None:
    """The site renders a list right after a line of text as text."""
    assert re.findall(r"^(?![-#|> ]|\d+\.)\S.*\n(?:- |1\. ).*", prose(page), flags=re.MULTILINE) == []


def test_every_page_is_reachable_from_the_navigation() -> None:
    found = nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    for page in found:  # grows while it is read
        linked = [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
        found += [other for other in linked if other.suffix == ".md" and other.exists() and other not in found]
    assert set(DOCS.rglob("*.md")) - set(found) == set()


@pytest.mark.parametrize("table", TABLES)
def test_every_option_of_a_table_is_documented(table: str) -> None:
    page = DOCS / ("how-to/training.md" if table == "train" else "reference/config.md")
    text = page.read_text(encoding="utf-8")
    keys = type(CompressConfig.model_fields[table].get_default()).model_fields
    assert [key for key in keys if f"`{key}`" not in text and f"`[{table}] {key}`" not in text] == []


def test_the_site_builds_in_strict_mode_without_outside_resources(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs mkdocs-material: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    html = "".join(page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html"))
    assert re.findall(r"<(?:script|link|img)\b[^>]*(?:src|href)=\"(https?:[^\"]+)", html) == []


def test_the_sample_report_is_a_real_page_that_names_no_machine() -> None:
    page = DOCS / "start" / "sample-report.html"
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 3e6
    assert re.findall(r"(?<![\w.])(?:/(?:home|root|tmp|var|work|Users|private)/|[A-Z]:\\\\)[^\s\"<]*", text) == []
    assert "mnasnet_small" in text
    assert text.count("data:image/png") >= 10, "thumbnails of test images"
    assert re.findall(r"(?:src|href)=\"(https?:[^\"]+)", text) == []

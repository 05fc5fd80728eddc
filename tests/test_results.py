"""benchmarks/results/*.json: every file is complete, and a page of results shows the same figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
PAGES = [
    (ROOT / "docs" / "explanation" / name).read_text(encoding="utf-8") for name in ("results.md", "earlier-results.md")
]
KEYS = {"schema_version", "question", "command", "version", "commit", "rows", "note"}
NOT_PRINTED = {"seeds", "seed", "labels_per_class", "images"}  # stand in the page as words or as column heads

every_file = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def sections_of(page):
    """Text of each section of a page by its heading."""
    parts = [part.partition("\n") for part in page.split("\n## ")[1:]]
    return {heading: text for heading, _, text in parts}


def sections():
    """Text of each section of both pages by its heading."""
    return {heading: text for page in PAGES for heading, text in sections_of(page).items()}


def section_of(path):
    named = [heading for heading, text in sections().items() if f"`benchmarks/results/{path.name}`" in text]
    assert len(named) == 1, f"{path.name} is named in {named}"
    return named[0]


def printed(text):
    """Numbers in a text, as floats."""
    return {float(word.replace(",", "")) for word in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]\d+)?", text)}


def numbers(row):
    """Pairs of key and number in a row; a list gives one pair for each entry."""
    pairs = [(key, entry) for key, value in row.items() for entry in (value if isinstance(value, list) else [value])]
    return [(key, value) for key, value in pairs if isinstance(value, int | float) and not isinstance(value, bool)]


def accuracies(rows):
    return {value for row in rows for key, value in numbers(row) if key.startswith("accuracy_percent")}


def test_there_are_results():
    assert len(FILES) >= 10


@every_file
def test_file_is_complete(path):
    document = read(path)
    assert set(document) == KEYS
    assert document["schema_version"] == 1
    assert document["rows"]
    for commit in (document["commit"], *(row["commit"] for row in document["rows"] if "commit" in row)):
        assert re.fullmatch(r"[0-9a-f]{40}", commit)


@every_file
def test_heading_is_the_question(path):
    assert section_of(path) == read(path)["question"]


@every_file
def test_every_figure_stands_in_the_section(path):
    shown = printed(sections()[section_of(path)])
    figures = [pair for row in read(path)["rows"] for pair in numbers(row) if pair[0] not in NOT_PRINTED]
    assert figures
    assert not [pair for pair in figures if pair[1] not in shown]


@every_file
def test_every_accuracy_of_the_section_stands_in_the_file(path):
    means = re.findall(r"(\d+\.\d) ± (\d+\.\d)", sections()[section_of(path)])
    rows = read(path)["rows"]
    pairs = [(row.get("accuracy_percent_mean"), row.get("accuracy_percent_std")) for row in rows]
    assert not [pair for pair in means if (float(pair[0]), float(pair[1])) not in pairs]


@pytest.mark.parametrize(("page", "rows"), [(PAGES[0], 13), (PAGES[1], 15)], ids=["results", "earlier results"])
def test_overview_repeats_figures_of_the_files(page, rows):
    lines = [line for line in sections_of(page)["At a glance"].splitlines() if re.match(r"\|.*\d\.\d", line)]
    shown = {float(number) for line in lines for number in re.findall(r"\d+\.\d", line)}
    known = set().union(*(accuracies(read(path)["rows"]) for path in FILES))
    assert len(lines) == rows
    assert shown <= known

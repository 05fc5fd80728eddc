"""Comparison of several runs on one page."""

from __future__ import annotations

import json
import re

import pytest

from tcs_edge.errors import DataError, UsageError
from tcs_edge.report.page.comparison import comparison_page
from tcs_edge.runs.folder import RunFolder


def row(page: str, title: str) -> list[str]:
    """Return the cells of a row without markup."""
    cells = re.search(rf'<th scope="row">{title}</th>(.*?)</tr>', page, re.S).group(1)
    return [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", cells, re.S)]


def test_the_best_value_of_a_row_is_marked(noted_run):
    runs = [noted_run(name="a", weights=2_000_000), noted_run(name="b", correct=95), noted_run(name="c")]
    page = comparison_page(runs)
    assert row(page, "Accuracy of the export") == ["90.00 %", "● best: 95.00 %", "90.00 %"]
    assert row(page, "Exports, MB") == ["2", "● best: 1", "● best: 1"]
    assert row(page, "Seed") == ["0", "0", "0"]


def test_equal_values_have_no_best(noted_run):
    page = comparison_page([noted_run(name="a"), noted_run(name="b")])
    assert row(page, "Latency, median, ms") == ["10", "10"]


def _answer(run: RunFolder, rows: range) -> None:
    """Make the predictions of `rows` correct."""
    document = json.loads(run.predictions.read_text())
    for index in rows:
        document["predicted"][index] = document["labels"][index]
    run.predictions.write_text(json.dumps(document))


def test_runs_on_the_same_images_are_paired(noted_run):
    first, second = RunFolder(noted_run(name="a")), RunFolder(noted_run(name="b"))
    _answer(second, range(0, 20))  # images 0, 5, 10 and 15 were wrong in both
    page = comparison_page([first.root, second.root])
    assert row(page, "<bdi>b</bdi>") == ["0", "4", "0.125"]


def test_runs_on_other_images_have_a_warning(noted_run):
    page = comparison_page([noted_run(name="a"), noted_run(name="b", images="other")])
    assert "These runs used different images" in page
    assert row(page, "<bdi>b</bdi>") == ["tested on other images, so the accuracies are not comparable"]


def test_a_failed_run_is_shown_as_failed(noted_run):
    page = comparison_page([noted_run(name="a"), noted_run(name="b", failed="onnxruntime: difference")])
    assert row(page, "Verdict") == ["pass", "fail"]


def test_runs_of_one_name_show_their_parent_folder(noted_run):
    page = comparison_page([noted_run(name="x/run"), noted_run(name="y/run")])
    assert "x/run" in page
    assert "y/run" in page


def test_the_same_run_twice_is_refused(noted_run):
    run = noted_run()
    with pytest.raises(UsageError, match="twice"):
        comparison_page([run, run.parent / "." / run.name])


def test_a_folder_that_is_not_a_run_is_refused(noted_run, tmp_path):
    with pytest.raises(DataError, match="no such run folder"):
        comparison_page([noted_run(), tmp_path / "none"])

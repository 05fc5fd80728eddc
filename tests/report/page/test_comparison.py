"""Comparison of several runs on one page."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tcs_edge.errors import DataError, UsageError
from tcs_edge.report.page.comparison import comparison_page
from tcs_edge.report.page.contents import read_run
from tcs_edge.report.page.pairs import paired_tests
from tcs_edge.runs.folder import RunFolder


def row(page: str, title: str) -> list[str]:
    """Return the cells of a row without markup."""
    cells = re.search(rf'<th scope="row">{title}</th>(.*?)</tr>', page, re.S).group(1)
    return [html.unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in re.findall(r"<td.*?</td>", cells, re.S)]


def test_the_smallest_size_of_a_row_is_marked(noted_run):
    runs = [noted_run(name="a", weights=2_000_000), noted_run(name="b", correct=95), noted_run(name="c")]
    page = comparison_page(runs)
    assert row(page, "Exports, MB") == ["2", "● best: 1", "● best: 1"]
    assert row(page, "Seed") == ["0", "0", "0"]


def test_equal_values_have_no_best(noted_run):
    page = comparison_page([noted_run(name="a"), noted_run(name="b")])
    assert row(page, "Latency, median") == ["10 ms", "10 ms"]


def test_a_latency_is_best_only_if_its_interval_is_below_all_others(noted_run):
    overlapping = [noted_run(name="a", latency_ms=10.0), noted_run(name="b", latency_ms=14.0)]
    assert row(comparison_page(overlapping), "Latency, median") == ["10 ms", "14 ms"]
    apart = [*overlapping, noted_run(name="c", latency_ms=1.0)]
    assert row(comparison_page(apart), "Latency, median") == ["10 ms", "14 ms", "● best: 1 ms"]
    unknown = [*apart, noted_run(name="d", latency_ms=None)]
    assert row(comparison_page(unknown), "Latency, median") == ["10 ms", "14 ms", "1 ms", "–"]


def test_a_failed_run_is_never_best(noted_run):
    runs = [noted_run(name="a", weights=2_000_000), noted_run(name="b", failed="onnxruntime: difference")]
    assert row(comparison_page(runs), "Exports, MB") == ["2", "1"]


def _write(run: Path, right: Sequence[bool], flipped: Sequence[int] = (), recorded: int | None = None) -> Path:
    """Write a run's predictions: an image is class 0, and predicted as class 0 if `right`.

    In the export the images `flipped` have the other class; `recorded` limits their record.
    """
    folder = RunFolder(run)
    predicted = [int(not one) for one in right]
    document = {
        "schema_version": 1, "names": [f"test/{index:03d}.png" for index in range(len(right))],
        "labels": [0] * len(right), "predicted": predicted, "confidences": [0.5] * len(right),
    }  # fmt: skip
    folder.predictions.write_text(json.dumps(document))
    validation = json.loads(folder.validation.read_text())
    flips = [
        {"index": index, "reference_class": predicted[index], "model_class": 1 - predicted[index], "margin": 1.0}
        for index in flipped
    ]
    validation["parities"]["onnxruntime"] |= {"flips": flips[:recorded], "flipped": len(flips)}
    folder.validation.write_text(json.dumps(validation))
    return run


def pattern(total: int, wrong: Sequence[int]) -> list[bool]:
    return [index not in wrong for index in range(total)]


def test_runs_on_the_same_images_are_paired(noted_run):
    first = _write(noted_run(name="a"), pattern(24, (0, 5, 10, 15, 20)))
    second = _write(noted_run(name="b"), pattern(24, (20,)))
    page = comparison_page([first, second])
    assert row(page, "<bdi>b</bdi>") == ["0", "4", "0.125", "no difference shown"]
    assert "No difference in accuracy is shown." in page


def test_an_accuracy_has_no_mark_without_a_shown_difference(noted_run):
    first = _write(noted_run(name="a", correct=90), pattern(100, range(10)))
    second = _write(noted_run(name="b", correct=91), pattern(100, range(9)))
    page = comparison_page([first, second])
    assert row(page, "Accuracy of the export") == ["90.00 %", "91.00 %"]
    assert row(page, "<bdi>b</bdi>") == ["0", "1", "1", "no difference shown"]


def test_an_accuracy_is_best_if_the_paired_tests_show_it(noted_run):
    first = _write(noted_run(name="a", correct=80), pattern(100, range(20)))
    second = _write(noted_run(name="b", correct=95), pattern(100, range(5)))
    page = comparison_page([first, second])
    assert row(page, "Accuracy of the export") == ["80.00 %", "● best: 95.00 %"]
    assert row(page, "<bdi>b</bdi>") == ["0", "15", "< 0.0001", "b is more accurate"]
    third = _write(noted_run(name="c", correct=96), pattern(100, range(4)))
    page = comparison_page([first, second, third])
    assert row(page, "Accuracy of the export") == ["80.00 %", "95.00 %", "96.00 %"]
    assert "No run is shown to be more accurate than all others." in page


def test_p_values_of_several_pairs_are_corrected(noted_run):
    # Alone p = 0.031 is below 0.05; the smallest of three is multiplied by three (Holm 1979).
    right = [pattern(50, range(6)), pattern(50, ()), pattern(50, range(6))]
    runs = [_write(noted_run(name=name), one) for name, one in zip("abc", right, strict=True)]
    tests = paired_tests([read_run(run) for run in runs])
    assert [found.test.p_value for found in tests] == pytest.approx([2 / 64, 1.0, 2 / 64])
    assert [found.adjusted_p for found in tests] == pytest.approx([6 / 64, 1.0, 6 / 64])
    assert [found.better for found in tests] == [None, None, None]
    assert paired_tests([read_run(run) for run in runs[:2]])[0].better == 1


def test_the_paired_test_counts_the_classes_of_the_export(noted_run):
    first = _write(noted_run(name="a"), pattern(30, ()), flipped=range(12))
    second = _write(noted_run(name="b"), pattern(30, ()))
    assert row(comparison_page([first, second]), "<bdi>b</bdi>")[:2] == ["0", "12"]


def test_runs_without_a_record_of_every_flip_are_not_tested(noted_run):
    first = _write(noted_run(name="a"), pattern(30, ()), flipped=range(12), recorded=5)
    second = _write(noted_run(name="b"), pattern(30, ()))
    page = comparison_page([first, second])
    assert row(page, "<bdi>b</bdi>") == ["one of the runs has no record of every image"]
    assert "difference in accuracy is shown" not in page


@pytest.mark.parametrize("count", range(2, 7))
def test_every_pair_of_runs_has_a_row(noted_run, count):
    runs = [noted_run(name=f"run{index}") for index in range(count)]
    page = comparison_page(runs)
    pairs = page[page.index('id="pairs"') : page.index("</section>", page.index('id="pairs"'))]
    assert pairs.count('<th scope="row">') == count * (count - 1) // 2
    assert len(row(page, "Seed")) == count


def test_every_run_has_its_name_in_the_chart(noted_run):
    names = ["good", "failed", "b" * 60]
    runs = [
        noted_run(name=names[0]), noted_run(name=names[1], failed="onnxruntime: difference", latency_ms=90.0),
        noted_run(name=names[2], latency_ms=30.0),
    ]  # fmt: skip
    drawn = re.search(r'id="plane".*?<div class="narrow">(<svg.*?</svg>)', comparison_page(runs), re.S).group(1)
    shown = [found.text for found in ElementTree.fromstring(drawn).iter("text") if "mark-label" in found.get("class")]
    assert {"good", "failed"} <= set(shown)
    assert any(re.fullmatch("b+…", one) for one in shown)


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

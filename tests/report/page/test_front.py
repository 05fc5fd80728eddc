"""Student selection as an SVG file."""

from __future__ import annotations

from xml.etree import ElementTree

from tcs_edge.report.page.pareto import choice_svg
from tcs_edge.runs.documents import CandidateRecord, ChoiceRecord
from tcs_edge.runs.schema import ExpectedRecord, LatencyRecord
from tcs_edge.specs.options import SearchName

SVG = "{http://www.w3.org/2000/svg}"


def candidate(name: str, ms: float, percent: float, search: SearchName, img_size: int | None = None) -> CandidateRecord:
    return CandidateRecord(
        name=name, img_size=img_size, chosen=name == "won", params_m=1, size_mb=1, top1=50,
        expected_accuracy=ExpectedRecord(percent=percent, search=search, how="-"),
        latency=LatencyRecord(p50_ms=ms, low_ms=ms, high_ms=2 * ms, threads=1, source="measured", citation="-"),
    )  # fmt: skip


def choice(*candidates: CandidateRecord) -> ChoiceRecord:
    return ChoiceRecord(
        target="raspberrypi4", named=False, ranking="-", img_size=32, limits={"max_latency_ms": 9.0},
        candidates=candidates,
    )  # fmt: skip


def test_the_svg_file_marks_every_student_of_the_search():
    drawn = choice_svg(choice(
        candidate("won", 2, 91, "halving", 48), candidate("won", 1, 80, "halving", 32), candidate("a", 1, 70, "table"),
    ))  # fmt: skip
    assert drawn
    root = ElementTree.fromstring(drawn)
    assert root.tag == f"{SVG}svg"
    assert [found.text for found in root.iter(f"{SVG}title")] == [
        "won at 48 px: 91.0 %, 2 ms, up to 4 ms (chosen)",
        "won at 32 px: 80.0 %, 1 ms, up to 2 ms (chosen)",
    ]
    words = [found.text for found in root.iter(f"{SVG}text")]
    assert "limit 9 ms" in words
    assert "accuracy of a short run, %" in words
    assert "prefers-color-scheme: dark" in drawn
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")


def test_one_student_has_no_drawing():
    assert choice_svg(choice(candidate("won", 2, 91, "table"))) is None

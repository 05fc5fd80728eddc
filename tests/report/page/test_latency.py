"""Latency section: interval on the target, exports and PyTorch on the exporting machine."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.errors import DataError
from tcs_edge.report.page.contents import read_run
from tcs_edge.report.page.latency import Timed, latency_chart, runner_title, timed
from tcs_edge.report.page.run import run_page
from tcs_edge.runs.folder import RunFolder
from tcs_edge.runs.schema import HostLatency, LatencyRecord

TIMES = st.floats(1e-3, 1e4)
BAND = LatencyRecord(p50_ms=2, low_ms=1, high_ms=5, threads=4, source="estimated", citation="-")


def row(*calls: float, title: str = "ONNX Runtime") -> Timed:
    ordered = sorted(calls)
    sample = HostLatency(p50_ms=ordered[0], p90_ms=ordered[-1], p99_ms=ordered[-1], runs=len(calls) + 1)
    return Timed(title, "f32", sample, None, calls)


def section(page: str) -> str:
    return page[page.index('<section id="latency"') : page.index('<section id="size"')]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("pytorch", "PyTorch, eager"),
        ("pytorch-compiled", "PyTorch, compiled"),
        ("onnxruntime", "ONNX Runtime"),
        ("openvino-int8", "OpenVINO, int8"),
        ("openvino-fp16-device", "OpenVINO, fp16, own choice"),
        ("another", "another"),
    ],
)
def test_runners_have_readable_titles(name, title):
    assert runner_title(name) == title


def test_every_runtime_is_compared_with_pytorch(noted_run):
    rows = {found.title: found for found in timed(read_run(noted_run()))}
    assert list(rows) == ["PyTorch, eager", "ONNX Runtime", "OpenVINO, int8"]
    assert rows["PyTorch, eager"].speed is None
    assert rows["ONNX Runtime"].speed == pytest.approx(3.5 / 1.5)
    assert rows["OpenVINO, int8"].speed == pytest.approx(3.5 / 0.55)
    assert len(rows["ONNX Runtime"].calls) == 101


def test_the_page_has_percentiles_source_interval_and_remarks(noted_run):
    part = section(run_page(noted_run(latency_ms=10.0)))
    for cell in ("1.5 ms", "1.9 ms", "1.99 ms", "2.33 × as fast", "5 to 20 ms", "estimated"):
        assert cell in part
    assert "x86_64, Linux" in part
    assert "&lt;i&gt;no such kernel&lt;/i&gt;" in part
    assert "--compiled-latency" in part
    assert part.count("<svg") == 2


@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_every_call_and_percentile_has_its_position(kind):
    chart = latency_chart(BAND, [row(1.0, 2.0, 8.0)])
    tree = ElementTree.fromstring(getattr(chart, kind))
    marks = [float(found.get("x1")) for found in tree.iter("line") if "percentile" in found.get("class")]
    (calls,) = [found.get("d") for found in tree.iter("path") if "calls" in found.get("class")]
    places = [float(each.split(" ")[0]) for each in calls.split("M")[1:]]
    assert places[0] == pytest.approx(marks[0], abs=0.1)
    assert places[2] == pytest.approx(marks[1], abs=0.1)
    (ring,) = list(tree.iter("circle"))
    assert float(ring.get("cx")) == pytest.approx(places[1], abs=0.1)  # 2 ms on both machines
    words = [found.text for found in tree.iter("text")]
    assert "On the target, estimated" in words
    assert "ONNX Runtime: 1 ms" in words
    # Equal ratios are equal distances on the logarithmic axis.
    assert (places[2] - places[1]) == pytest.approx(2 * (places[1] - places[0]), abs=0.3)


@given(st.lists(st.lists(TIMES, min_size=1, max_size=8), max_size=5), st.booleans())
def test_all_marks_are_inside_the_chart_and_the_axis_has_ticks(rows, banded):
    chart = latency_chart(BAND if banded else None, [row(*calls) for calls in rows])
    if not rows and not banded:
        assert chart is None
        return
    for drawn, width in ((chart.wide, 760), (chart.narrow, 360)):
        tree = ElementTree.fromstring(drawn)
        height = float(tree.get("viewBox").split()[3])
        for found in tree.iter("line"):
            assert 0 <= float(found.get("x1")) <= float(found.get("x2")) <= width
            assert 0 <= float(found.get("y1")) <= float(found.get("y2")) <= height
        ticks = [found for found in tree.iter("text") if found.get("class") == "tick"]
        assert len(ticks) >= 2


def test_a_run_without_recorded_calls_shows_percentiles(noted_run):
    root = noted_run()
    RunFolder(root).latency.unlink()
    part = section(run_page(root))
    assert 'class="percentile exported"' in part
    assert 'class="calls' not in part


def test_a_run_without_latency_has_a_note(noted_run):
    root = noted_run(latency_ms=None)
    document = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps(document | {"latency_here": None}))
    part = section(run_page(root))
    assert "No latency was measured on the exporting machine" in part
    assert "has no value for this student" in part
    assert "<svg" not in part


@pytest.mark.parametrize("calls", [[0.0], [-1.0], ["fast"]])
def test_calls_without_a_positive_time_are_refused(noted_run, calls):
    root = noted_run()
    RunFolder(root).latency.write_text(json.dumps({"schema_version": 1, "calls_ms": {"onnxruntime": calls}}))
    with pytest.raises(DataError, match=r"latency\.json"):
        run_page(root)

"""Draw the latency of one image: on the target, and of every export and PyTorch on the exporting machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tcs_edge.report.page.charts import Chart
from tcs_edge.report.page.contents import RunContents
from tcs_edge.report.page.environment import significant
from tcs_edge.report.page.plane import NARROW, WIDE
from tcs_edge.report.page.svg import (
    TICK_MARK_PX,
    Axis,
    combs,
    drawing,
    element,
    fitted,
    line,
    text,
    tick_label,
)
from tcs_edge.report.text import one_line
from tcs_edge.runs.schema import HostLatency, LatencyRecord

EAGER = "pytorch"
TITLES = {
    "pytorch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "ncnn": "ncnn",
    "litert": "LiteRT",
}
WAYS = {"device": "own choice"}  # OpenVINO or ncnn with the arithmetic that it selects itself
NARROWEST = 4.0  # an axis spans at least this factor, so that it has ticks and does not exaggerate noise
LABELS_PX, GROUP_PX, MARK_PX = 264, 28, 9.0


@dataclass(frozen=True)
class Timed:
    """Latency of one runner on the exporting machine.

    Attributes:
        speed: median of PyTorch in eager mode over this median; None for PyTorch itself and without it.
        calls: every timed call in ms; empty for a run without recorded calls.
    """

    title: str
    precision: str
    sample: HostLatency
    speed: float | None
    calls: tuple[float, ...]

    @property
    def exported(self) -> bool:
        """True for an exported file, False for PyTorch."""
        return not self.title.startswith(TITLES[EAGER])


@dataclass(frozen=True)
class Latency:
    """Content of the section: the rows timed after the export, and the chart; None without any latency."""

    rows: tuple[Timed, ...]
    chart: Chart | None


def latency_of(run: RunContents) -> Latency:
    """Return the rows and the chart of a run's latency."""
    rows = timed(run)
    return Latency(rows, latency_chart(run.manifest.student.latency, rows))


def timed(run: RunContents) -> tuple[Timed, ...]:
    """Return the latencies measured after the export, PyTorch first; empty without any."""
    here = run.manifest.latency_here
    if here is None:
        return ()
    eager = here.runtimes.get(EAGER)
    calls = run.calls.calls_ms if run.calls else {}
    return tuple(
        Timed(
            runner_title(name),
            run.validation.precisions.get(name, "f32"),
            sample,
            eager.p50_ms / sample.p50_ms if eager and name != EAGER else None,
            calls.get(name, ()),
        )
        for name, sample in here.runtimes.items()
    )


def runner_title(name: str) -> str:
    """Format a runner's name, such as "ONNX Runtime, int8" for "onnxruntime-int8"."""
    runtime, *ways = name.split("-")
    ways = ways or (["eager"] if name == EAGER else [])
    return ", ".join([TITLES.get(runtime, runtime), *(WAYS.get(way, way) for way in ways)])


def latency_chart(target: LatencyRecord | None, rows: Sequence[Timed]) -> Chart | None:
    """Draw the interval on the target and the calls of `rows` on one logarithmic scale; None without any."""
    if target is None and not rows:
        return None
    return Chart(*(_drawn(target, rows, width) for width in (WIDE, NARROW)))


def _drawn(target: LatencyRecord | None, rows: Sequence[Timed], width: int) -> Markup:
    wide = width == WIDE
    step, above = (34, 0) if wide else (48, 20)  # on a phone the names are above the marks
    x = Axis(*_ends(target, rows), start=LABELS_PX if wide else 12, end=width - 14, log=True)
    parts: list[Markup] = []
    down = 4.0
    if target:
        parts += [
            _group(down, f"On the target, {one_line(target.source)}"),
            _interval(target, x, down + GROUP_PX, above),
        ]
        down += GROUP_PX + step
    if rows:
        parts.append(_group(down, "On the exporting machine, measured"))
        parts += [_strip(row, x, down + GROUP_PX + step * number, above) for number, row in enumerate(rows)]
        down += GROUP_PX + step * len(rows)
    label = "Latency of one image on the target and on the exporting machine. The tables have the numbers."
    return drawing(width, int(down) + 44, label, _scale(x, down), *parts)


def _ends(target: LatencyRecord | None, rows: Sequence[Timed]) -> tuple[float, float]:
    """Return both ends of the axis in ms."""
    known = [target.low_ms, target.high_ms] if target else []
    for row in rows:
        known += [row.sample.p50_ms, row.sample.p99_ms, *row.calls]
    low, high = min(known) / 1.1, max(known) * 1.1
    missing = max(1.0, NARROWEST * low / high) ** 0.5
    return low / missing, high * missing


def _scale(x: Axis, bottom: float) -> Markup:
    parts = [line(x(tick), bottom, x(tick), bottom + TICK_MARK_PX, "axis") for tick in {*x.spaced_ticks(), *x.steps()}]
    for tick in x.spaced_ticks():
        parts.append(line(x(tick), 8, x(tick), bottom, "grid"))
        parts.append(text(x(tick), bottom + 16, tick_label(tick), anchor="middle"))
    parts.append(text(x.end, bottom + 34, "latency, ms (one image, logarithmic)", "axis-title", anchor="end"))
    return Markup("").join(parts)


def _group(down: float, title: str) -> Markup:
    return text(0, down + 14, title, "mark-label group")


def _interval(target: LatencyRecord, x: Axis, down: float, above: int) -> Markup:
    """Draw the median as a ring with whiskers, because there are no single calls."""
    middle = down + above + 15
    middle_ms, low_ms, high_ms = map(significant, (target.p50_ms, target.low_ms, target.high_ms))
    told = f"median {middle_ms} ms, interval {low_ms} to {high_ms} ms, {target.source}"
    caps = [line(x(end), middle - 5, x(end), middle + 5, "whisker chosen") for end in (target.low_ms, target.high_ms)]
    whisker = line(x(target.low_ms), middle, x(target.high_ms), middle, "whisker chosen")
    ring = element("circle", cx=x(target.p50_ms), cy=middle, r=5.0, class_="mark ring")
    name = _name(f"{middle_ms} ms, {low_ms} to {high_ms}", down, x)
    return element("g", element("title", told), name, whisker, *caps, ring)


def _strip(row: Timed, x: Axis, down: float, above: int) -> Markup:
    """Draw every call as a thin line, and the 50th, 90th and 99th percentile as marks of falling height."""
    sample, middle = row.sample, down + above + 15
    median, most, nearly_all = (significant(at, "ms") for at in (sample.p50_ms, sample.p90_ms, sample.p99_ms))
    told = f"{row.title}: median {median}, 90 % within {most}, 99 % within {nearly_all}, {sample.runs} calls"
    kind = "exported" if row.exported else "reference"
    calls = combs([(x(each), middle - MARK_PX) for each in row.calls], middle + MARK_PX, 1.5, f"calls {kind}")
    span = line(x(sample.p50_ms), middle, x(sample.p99_ms), middle, f"span {kind}")
    marks = [
        line(x(at), middle - height, x(at), middle + height, f"percentile {kind}")
        for at, height in ((sample.p50_ms, 12.0), (sample.p90_ms, 7.0), (sample.p99_ms, 4.0))
    ]
    return element("g", element("title", told), _name(f"{row.title}: {median}", down, x), calls, span, *marks)


def _name(content: str, down: float, x: Axis) -> Markup:
    """Draw a name at the left edge, beside the marks of a wide chart or above them."""
    return text(0, down + 19, fitted(content, x.start - 8 if x.start == LABELS_PX else x.end), "mark-label")

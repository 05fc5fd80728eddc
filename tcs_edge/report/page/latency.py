"""How long one image takes: on the target as the choice took it, and every exported file beside PyTorch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tcs_edge.report.page.charts import NARROW, WIDE, Chart
from tcs_edge.report.page.contents import RunContents
from tcs_edge.report.page.svg import Axis, combs, drawing, element, line, text
from tcs_edge.report.text import one_line
from tcs_edge.runs.schema import HostLatency, LatencyRecord

EAGER = "pytorch"
TITLES = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
WAYS = {"device": "own choice"}  # OpenVINO as it chooses its arithmetic by itself
NARROWEST = 4.0  # an axis spans at least this factor, so that it has ticks and noise looks like noise
LABELS_PX, GROUP_PX, MARK_PX = 264, 28, 9.0


@dataclass(frozen=True)
class Timed:
    """A runner on the machine that exported.

    Attributes:
        speed: how many times as fast as PyTorch in eager mode, by the medians; None for itself and without it.
        calls: every timed call in ms; empty where the run did not note them.
    """

    title: str
    precision: str
    sample: HostLatency
    speed: float | None
    calls: tuple[float, ...]

    @property
    def exported(self) -> bool:
        """Whether it runs an exported file."""
        return not self.title.startswith(TITLES[EAGER])


@dataclass(frozen=True)
class Latency:
    """The section: what was timed after the export, and the picture; None where nothing is known."""

    rows: tuple[Timed, ...]
    chart: Chart | None


def latency_of(run: RunContents) -> Latency:
    """Everything that a run knows of its latency."""
    rows = timed(run)
    return Latency(rows, latency_chart(run.manifest.student.latency, rows))


def timed(run: RunContents) -> tuple[Timed, ...]:
    """Everything that was timed after the export, PyTorch first; empty where nothing was."""
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
    """A runner's name as people write it: "onnxruntime-int8" is "ONNX Runtime, int8"."""
    runtime, *ways = name.split("-")
    ways = ways or (["eager"] if name == EAGER else [])
    return ", ".join([TITLES.get(runtime, runtime), *(WAYS.get(way, way) for way in ways)])


def latency_chart(band: LatencyRecord | None, rows: Sequence[Timed]) -> Chart | None:
    """The band on the target and the calls of `rows` on one logarithmic scale; None where nothing is known."""
    if band is None and not rows:
        return None
    return Chart(*(_drawn(band, rows, width) for width in (WIDE, NARROW)))


def _drawn(band: LatencyRecord | None, rows: Sequence[Timed], width: int) -> Markup:
    wide = width == WIDE
    step, above = (34, 0) if wide else (48, 20)  # a phone has no room for names beside the marks
    x = Axis(*_ends(band, rows), start=LABELS_PX if wide else 12, end=width - 14, log=True)
    parts: list[Markup] = []
    down = 4.0
    if band:
        parts += [_group(down, f"On the target, {one_line(band.source)}"), _band(band, x, down + GROUP_PX, above)]
        down += GROUP_PX + step
    if rows:
        parts.append(_group(down, "Where it was exported, measured"))
        parts += [_strip(row, x, down + GROUP_PX + step * number, above) for number, row in enumerate(rows)]
        down += GROUP_PX + step * len(rows)
    label = "Latency of one image on the target and where it was exported; the tables hold the numbers."
    return drawing(width, int(down) + 44, label, _scale(x, down), *parts)


def _ends(band: LatencyRecord | None, rows: Sequence[Timed]) -> tuple[float, float]:
    """Where the axis begins and ends, in ms."""
    known = [band.low_ms, band.high_ms] if band else []
    for row in rows:
        known += [row.sample.p50_ms, row.sample.p99_ms, *row.calls]
    low, high = min(known) / 1.1, max(known) * 1.1
    missing = max(1.0, NARROWEST * low / high) ** 0.5
    return low / missing, high * missing


def _scale(x: Axis, bottom: float) -> Markup:
    parts: list[Markup] = []
    for tick in x.ticks(8):
        parts.append(line(x(tick), 8, x(tick), bottom, "grid"))
        parts.append(text(x(tick), bottom + 16, f"{tick:g}", anchor="middle"))
    parts.append(text(x.end, bottom + 34, "latency, ms (one image, logarithmic)", "axis-title", anchor="end"))
    return Markup("").join(parts)


def _group(down: float, title: str) -> Markup:
    return text(0, down + 14, title, "mark-label group")


def _band(band: LatencyRecord, x: Axis, down: float, above: int) -> Markup:
    """The median as a ring with whiskers: no call of it was seen."""
    middle = down + above + 15
    told = f"median {band.p50_ms:.3g} ms, band {band.low_ms:.3g} to {band.high_ms:.3g} ms, {band.source}"
    caps = [line(x(end), middle - 5, x(end), middle + 5, "whisker chosen") for end in (band.low_ms, band.high_ms)]
    whisker = line(x(band.low_ms), middle, x(band.high_ms), middle, "whisker chosen")
    ring = element("circle", cx=x(band.p50_ms), cy=middle, r=5.0, class_="mark ring")
    name = _name(f"{band.p50_ms:.3g} ms, {band.low_ms:.3g} to {band.high_ms:.3g}", down)
    return element("g", element("title", told), name, whisker, *caps, ring)


def _strip(row: Timed, x: Axis, down: float, above: int) -> Markup:
    """Every call as a thin line; the median, the 90th and the 99th of a hundred as marks of falling height."""
    sample, middle = row.sample, down + above + 15
    told = (
        f"{row.title}: median {sample.p50_ms:.3g} ms, 90 % within {sample.p90_ms:.3g} ms, "
        f"99 % within {sample.p99_ms:.3g} ms, {sample.runs} calls"
    )
    kind = "exported" if row.exported else "reference"
    calls = combs([(x(each), middle - MARK_PX) for each in row.calls], middle + MARK_PX, 1.5, f"calls {kind}")
    span = line(x(sample.p50_ms), middle, x(sample.p99_ms), middle, f"span {kind}")
    marks = [
        line(x(at), middle - height, x(at), middle + height, f"percentile {kind}")
        for at, height in ((sample.p50_ms, 12.0), (sample.p90_ms, 7.0), (sample.p99_ms, 4.0))
    ]
    return element(
        "g", element("title", told), _name(f"{row.title}: {sample.p50_ms:.3g} ms", down), calls, span, *marks
    )


def _name(content: str, down: float) -> Markup:
    return text(0, down + 19, content, "mark-label")

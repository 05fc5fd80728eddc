"""Draw the charts of a run as SVG; the page also has every chart as a table or a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from tcs_edge.report.page.plane import NARROW, WIDE, Point, plane
from tcs_edge.report.page.svg import (
    Axis,
    combs,
    drawing,
    element,
    fitted,
    frame,
    line,
    padded,
    path,
    text,
    text_width,
)
from tcs_edge.report.text import one_line
from tcs_edge.runs.documents import CandidateRecord, ChoiceRecord, CoordinatesRecord, SelectionRecord
from tcs_edge.specs.options import SearchName

SMALLEST_SHARE = 1e-4  # percent of the variance; smaller shares are drawn at the bottom
DOTS_UP_TO = 15  # epochs
LEGEND_GAP_PX = 34
STRIP_PX = 10.0
LINE_STYLES = 8
# Name of a search's accuracy in the accessible description, and above the axis.
ACCURACIES: dict[SearchName, tuple[str, str]] = {
    "table": ("Published ImageNet accuracy", "ImageNet top-1, %"),
    "alignment": ("Alignment with teacher and labels", "alignment, %"),
    "halving": ("Validation accuracy of short runs", "accuracy of a short run, %"),
}


@dataclass(frozen=True)
class Chart:
    """One chart, drawn for a wide page and for a phone."""

    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class Series:
    """Line in a chart: (x, y) points and the name in the legend."""

    name: str
    points: tuple[tuple[float, float], ...]


def choice_chart(choice: ChoiceRecord) -> Chart | None:
    """Draw accuracy against latency on the target; None if fewer than two students have both."""
    points = choice_points(choice)
    if len(points) < 2:
        return None
    draw = partial(students_plane, points, choice.limits.get("max_latency_ms"), search_of(choice))
    return Chart(draw(WIDE), draw(NARROW))


def students_plane(points: Sequence[Point], limit: float | None, search: SearchName, width: int = WIDE) -> Markup:
    """Draw at least two students and the latency limit in ms, if any; `search` names the source of the accuracies."""
    what, y_title = ACCURACIES[search]
    return plane(points, limit, f"{what} against latency of {len(points)} students.", y_title, width)


def runs_chart(points: Sequence[Point]) -> Chart | None:
    """Draw test accuracy against latency of the compared runs, each with its name; None for fewer than two."""
    if len(points) < 2:
        return None
    label = "Test accuracy against latency of the compared runs. The table has the numbers."
    return Chart(*(plane(points, None, label, "test accuracy, %", width, points) for width in (WIDE, NARROW)))


def search_of(choice: ChoiceRecord) -> SearchName:
    """Return the search that ranked the chosen student, which is first in the record."""
    expected = choice.candidates[0].expected_accuracy if choice.candidates else None
    return expected.search if expected else "table"


def choice_points(choice: ChoiceRecord) -> list[Point]:
    """Return the students with a known latency and an accuracy from the selection's search."""
    search = search_of(choice)
    return [point for found in choice.candidates if (point := _point(found, search))]


def _point(found: CandidateRecord, search: SearchName) -> Point | None:
    expected = found.expected_accuracy
    accuracy = found.top1 if search == "table" else expected.percent if expected and expected.search == search else None
    if found.latency is None or accuracy is None:
        return None
    kind = "chosen" if found.chosen else "rejected" if found.reasons else "fits"
    return Point(found.label, found.latency.p50_ms, found.latency.high_ms, accuracy, kind)


def lines_chart(series: Sequence[Series], y_title: str, label: str, x_title: str = "epoch") -> Chart | None:
    """Draw lines over epochs or steps; None without any point."""
    series = [found for found in series if found.points]
    if not series:
        return None
    return Chart(*(_lines(series, y_title, label, x_title, width) for width in (WIDE // 2, NARROW)))


def _lines(series: Sequence[Series], y_title: str, label: str, x_title: str, width: int) -> Markup:
    names = legend(series, width) if len(series) > 1 else ()
    top = 26 + 18 * len(names)
    height = 234 + 18 * len(names)
    points = [point for found in series for point in found.points]
    last = max(across for across, _ in points)
    x = Axis(min(across for across, _ in points), max(last, points[0][0] + 1), start=44, end=width - 12)
    y = Axis(*padded([up for _, up in points], 0.05), start=height - 46, end=top)
    drawn = [series_line(found, series_class(number), x, y) for number, found in enumerate(series)]
    ticks = [tick for tick in x.spaced_ticks(5) if tick == round(tick)]
    return drawing(width, height, label, frame(x, y, x_title, y_title, ticks), *names, *drawn)


def series_class(number: int) -> str:
    """Return the line style number `number` of the stylesheet; more lines repeat the styles."""
    return f"series-{number % LINE_STYLES + 1}"


def legend(series: Sequence[Series], width: int) -> tuple[Markup, ...]:
    """Draw rows of line samples with their names, under the y title."""
    rows: list[list[Markup]] = [[]]
    across = 0.0
    for number, found in enumerate(series):
        name = fitted(one_line(found.name), width - LEGEND_GAP_PX)
        needed = LEGEND_GAP_PX + text_width(name) + 12
        if rows[-1] and across + needed > width:
            rows, across = [*rows, []], 0.0
        height = 28.0 + 18 * (len(rows) - 1)
        sample = line(across, height - 4, across + 22, height - 4, f"series {series_class(number)}")
        rows[-1].append(Markup("").join([sample, text(across + 28, height, name, "mark-label")]))
        across += needed
    return tuple(Markup("").join(row) for row in rows)


def series_line(series: Series, class_: str, x: Axis, y: Axis) -> Markup:
    """Draw a line through the points, with dots and tooltips unless there are many."""
    places = [(x(across), y(up)) for across, up in series.points]
    dots = places if len(places) <= DOTS_UP_TO else []
    told = [element("title", f"{one_line(series.name)}, {across:g}: {up:.4g}") for across, up in series.points]
    circles = [
        element("circle", told[row], cx=left, cy=top, r=3.0, class_=f"dot {class_}")
        for row, (left, top) in enumerate(dots)
    ]
    return Markup("").join([path(places, f"series {class_}"), *circles])


def spectrum_chart(coordinates: CoordinatesRecord, removed: frozenset[int]) -> Chart:
    """Draw the share of the variance along every axis of the teacher, by kept, removed and unused axes."""
    kept = coordinates.dims - len(removed)
    label = (
        f"Share of the teacher's variance along {len(coordinates.eigenvalues)} axes, decreasing. "
        f"{coordinates.dims} axes are coordinates. Feature selection kept {kept} of them."
    )
    return Chart(*(_spectrum(coordinates, removed, label, width) for width in (WIDE, NARROW)))


def _spectrum(coordinates: CoordinatesRecord, removed: frozenset[int], label: str, width: int) -> Markup:
    height = 280
    total = sum(coordinates.eigenvalues) or 1.0
    shares = [max(100 * value / total, SMALLEST_SHARE) for value in coordinates.eigenvalues]
    x = Axis(0.5, len(shares) + 0.5, start=46, end=width - 8)
    y = Axis(*padded(shares, 0.03, log=True), start=height - 60, end=26, log=True)
    bar = (x.end - x.start) / len(shares)
    tops = [(x(axis + 1), y(share)) for axis, share in enumerate(shares)]
    groups: dict[str, list[tuple[float, float]]] = {"kept": [], "removed": [], "unused": []}
    for axis, top in enumerate(tops):
        groups["unused" if axis >= coordinates.dims else "removed" if axis in removed else "kept"].append(top)
    bars = [combs(group, y.start, max(0.4, 0.8 * bar), f"axis-{name}") for name, group in groups.items()]
    # A strip under the bars marks kept axes without color, and for low bars.
    strip = combs(
        [(left, y.start + STRIP_PX) for left, _ in groups["kept"]], y.start + 3, max(0.4, 0.8 * bar), "axis-strip"
    )
    axes = frame(x, y, "axis, largest variance first", "share of variance, %", gap=STRIP_PX)
    return drawing(width, height, label, axes, *bars, strip)


def selection_series(coordinates: CoordinatesRecord, selection: SelectionRecord) -> Series:
    """Return the number of remaining coordinates at each step, as stairs."""
    left = coordinates.dims
    points: list[tuple[float, float]] = [(0.0, float(left))]
    for found in selection.rounds:
        points.append((float(found.step), float(left)))
        left -= len(found.removed)
        points.append((float(found.step), float(left)))
    return Series("coordinates left", tuple(points))

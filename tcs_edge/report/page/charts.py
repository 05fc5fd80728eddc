"""Draw the charts of a run as SVG; the page also has every chart as a table or a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from markupsafe import Markup

from tcs_edge.report.page.environment import significant
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

WIDE, NARROW = 760, 360
SMALLEST_SHARE = 1e-4  # percent of the variance; smaller shares are drawn at the bottom
Box = tuple[float, float, float, float]  # left, top, right, bottom
DOTS_UP_TO = 15  # epochs
LEGEND_GAP_PX = 34
STRIP_PX = 10.0
LABEL_SHARE = 0.62  # of the chart's width; longer labels are cut
BOLD = 1.15  # width of bold text over that of normal text
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


@dataclass(frozen=True)
class Point:
    """A student or a run: median latency and upper end of its interval in ms, accuracy in percent."""

    name: str
    latency_ms: float
    high_ms: float
    accuracy: float
    kind: str  # "chosen", "fits" or "rejected"

    @property
    def told(self) -> str:
        """Text of the tooltip."""
        band = f", up to {significant(self.high_ms, 'ms')}" if self.high_ms > self.latency_ms else ""
        return f"{one_line(self.name)}: {self.accuracy:.1f} %, {significant(self.latency_ms, 'ms')}{band} ({self.kind})"


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
    return _plane(points, limit, f"{what} against latency of {len(points)} students.", y_title, width)


def runs_chart(points: Sequence[Point]) -> Chart | None:
    """Draw test accuracy against latency of the compared runs, each with its name; None for fewer than two."""
    if len(points) < 2:
        return None
    label = "Test accuracy against latency of the compared runs. The table has the numbers."
    return Chart(*(_plane(points, None, label, "test accuracy, %", width, points) for width in (WIDE, NARROW)))


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


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other point beats in both latency and accuracy, fastest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.latency_ms, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def _plane(
    points: Sequence[Point],
    limit: float | None,
    label: str,
    y_title: str,
    width: int,
    named: Sequence[Point] = (),
) -> Markup:
    """Draw the points; those in `named`, the chosen one and the Pareto fronts get labels."""
    height = 420 if width == WIDE else 340
    ends = [point.latency_ms for point in points] + [point.high_ms for point in points] + ([limit] if limit else [])
    x = Axis(*padded(ends, 0.04, log=True), start=40, end=width - 10, log=True)
    y = Axis(*padded([point.accuracy for point in points], 0.08), start=height - 46, end=26)
    front = pareto_front([point for point in points if point.kind != "rejected"])
    marks = [_mark(point, x, y) for point in sorted(points, key=lambda point: point.kind == "chosen")]
    return drawing(
        width, height, label,
        frame(x, y, "latency, ms (one image, median; the line ends at the upper end of the interval)"
              if width == WIDE else "latency, ms (line: up to)", y_title),
        _limit_line(limit, x, y) if limit else Markup(""),
        path(_stairs(front, x, y), "front") if front else Markup(""),
        *marks,
        *_labels(points, [*front, *named], limit, x, y, _stairs(front, x, y) if front else ()),
    )  # fmt: skip


def _limit_line(limit: float, x: Axis, y: Axis) -> Markup:
    words = f"limit {significant(limit, 'ms')}"
    left, right = x(limit) - 5, x(limit) + 5
    inside = left - text_width(words) >= 0
    title = text(left if inside else right, y.end + 4, words, "mark-label limit", anchor="end" if inside else "start")
    return Markup("").join([line(x(limit), y.start, x(limit), y.end, "limit"), title])


def _stairs(front: Sequence[Point], x: Axis, y: Axis) -> list[tuple[float, float]]:
    """Draw the front as steps: the accuracy is constant up to the latency of the next student."""
    corners = [(x(front[0].latency_ms), y(front[0].accuracy))]
    for point in front[1:]:
        corners += [(x(point.latency_ms), corners[-1][1]), (x(point.latency_ms), y(point.accuracy))]
    return [*corners, (x.end, corners[-1][1])]


def _mark(point: Point, x: Axis, y: Axis) -> Markup:
    height = y(point.accuracy)
    radius = 7.0 if point.kind == "chosen" else 4.5
    circle = element("circle", cx=x(point.latency_ms), cy=height, r=radius, class_=f"mark {point.kind}")
    whisker = line(x(point.latency_ms), height, x(point.high_ms), height, f"whisker {point.kind}")
    return element("g", element("title", point.told), whisker, circle)


def _labels(
    points: Sequence[Point],
    named: Sequence[Point],
    limit: float | None,
    x: Axis,
    y: Axis,
    stairs: Sequence[tuple[float, float]],
) -> list[Markup]:
    """Label the chosen student, `named`, and the front without limits, as far as there is space."""
    taken = [_around(point, x, y) for point in points]
    better_not = [_whisker(point, x, y) for point in points if point.kind != "rejected"]
    better_not += [_segment(start, end) for start, end in pairwise(stairs)]
    if limit:
        better_not.append((x(limit) - 2, y.end, x(limit) + 2, y.start))
    labels = []
    chosen = [point for point in points if point.kind == "chosen"]
    for point in sorted({*chosen, *named, *pareto_front(points)}, key=_label_order):
        name = fitted(one_line(point.name), LABEL_SHARE * (x.end - x.start))
        spot = _free_spot(point, name, x, y, [*taken, *better_not]) or _free_spot(point, name, x, y, taken)
        if spot:
            taken.append(spot)
            labels.append(text(spot[0], spot[3] - 3, name, f"mark-label {point.kind}"))
    return labels


def _segment(start: tuple[float, float], end: tuple[float, float]) -> Box:
    """Return the box around a horizontal or vertical line."""
    (left, right), (top, bottom) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    return left - 1, top - 1, right + 1, bottom + 1


def _label_order(point: Point) -> tuple[int, float]:
    return ("chosen", "fits", "rejected").index(point.kind), point.latency_ms


def _around(point: Point, x: Axis, y: Axis) -> Box:
    left, top = x(point.latency_ms), y(point.accuracy)
    return (left - 5, top - 5, left + 5, top + 5)


def _whisker(point: Point, x: Axis, y: Axis) -> Box:
    return (x(point.latency_ms), y(point.accuracy) - 2, x(point.high_ms), y(point.accuracy) + 2)


def _free_spot(point: Point, name: str, x: Axis, y: Axis, taken: Sequence[Box]) -> Box | None:
    left, top = x(point.latency_ms), y(point.accuracy)
    width = text_width(name) * (BOLD if point.kind == "chosen" else 1)
    spots = (
        (left - width - 10, top - 17), (left - width / 2, top - 24), (left + 9, top - 18),
        (left - width - 10, top + 2), (left - width / 2, top + 8), (left + 9, top + 3),
        (x(point.high_ms) + 6, top - 7), (left - width - 12, top - 7),
    )  # fmt: skip
    for across, down in spots:
        box = (across, down, across + width, down + 14)
        inside = box[0] >= x.start and box[2] <= x.end and box[1] >= y.end - 12 and box[3] <= y.start
        if inside and not any(_overlap(box, other) for other in taken):
            return box
    return None


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


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

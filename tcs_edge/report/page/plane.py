"""Draw points of accuracy against latency, with the Pareto front and the limit, and place their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from tcs_edge.report.page.environment import significant
from tcs_edge.report.page.svg import Axis, drawing, element, fitted, frame, line, padded, path, text, text_width
from tcs_edge.report.text import one_line

WIDE, NARROW = 760, 360
Box = tuple[float, float, float, float]  # left, top, right, bottom
LABEL_SHARE = 0.62  # of the chart's width; longer labels are cut
BOLD = 1.15  # width of bold text over that of normal text


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


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other point beats in both latency and accuracy, fastest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.latency_ms, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def plane(
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
    left, _, right, bottom = _limit_box(limit, x, y)
    place, anchor = (right, "end") if right < x(limit) else (left, "start")
    title = text(place, bottom - 3, _limit_words(limit), "mark-label limit", anchor=anchor)
    return Markup("").join([line(x(limit), y.start, x(limit), y.end, "limit"), title])


def _limit_words(limit: float) -> str:
    return f"limit {significant(limit, 'ms')}"


def _limit_box(limit: float, x: Axis, y: Axis) -> Box:
    """Return the place of the limit's label: left of its line, or right of it without space."""
    width = text_width(_limit_words(limit))
    left = x(limit) - 5 - width if x(limit) - 5 - width >= 0 else x(limit) + 5
    return left, y.end - 7, left + width, y.end + 7


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
        taken.append(_limit_box(limit, x, y))
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

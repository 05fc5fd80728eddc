"""Draws the students of a choice as text: accuracy over latency, with the front that no student beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tcs_edge.students.choice import Assessment

WIDTH, HEIGHT = 60, 12
# Later ones are drawn over earlier ones.
REJECTED, FITS, ON_FRONT, WINNER = "x", ".", "o", "#"


def draw_pareto(
    fitting: Sequence[Assessment], rejected: Sequence[Assessment], front: Sequence[Assessment], winner: str | None
) -> list[str]:
    """Lines of a chart: expected accuracy in percent upwards, median latency in ms (logarithmic) to the right.

    `winner` is the label of the chosen one.
    Students whose latency or accuracy is not known are left out; without two others there is no chart.
    """
    best = {found.label for found in front}
    points = []
    for found, mark in [*((f, REJECTED) for f in rejected), *((f, FITS) for f in fitting)]:
        if found.pareto_point:
            on_pareto_front = ON_FRONT if mark == FITS and found.label in best else mark
            mark = WINNER if found.label == winner else on_pareto_front
            points.append((math.log(found.pareto_point.latency_ms), found.pareto_point.percent, mark))
    return _chart(points) if len(points) > 1 else []


def pareto_lines(front: Sequence[Assessment]) -> list[str]:
    """One line for each student on the front, fastest first."""
    return [
        f"  {found.label}: {found.expected.percent:.1f} %, {found.latency}, {found.size_mb:.1f} MB"
        for found in front
        if found.expected
    ]


def _chart(points: Sequence[tuple[float, float, str]]) -> list[str]:
    columns, rows = _scale([x for x, _, _ in points], WIDTH), _scale([y for _, y, _ in points], HEIGHT)
    order = REJECTED + FITS + ON_FRONT + WINNER
    cells = [[" "] * WIDTH for _ in range(HEIGHT)]
    for column, row, (_, _, mark) in sorted(
        zip(columns, rows, points, strict=True), key=lambda cell: order.index(cell[2][2])
    ):
        cells[HEIGHT - 1 - row][column] = mark
    latencies, percents = [math.exp(x) for x, _, _ in points], [y for _, y, _ in points]
    lines = [f"{'':7}|{''.join(line).rstrip()}" for line in cells]
    lines[0] = f"{max(percents):5.1f} %{lines[0][7:]}"
    lines[-1] = f"{min(percents):5.1f} %{lines[-1][7:]}"
    left, right = f"{min(latencies):.3g} ms", f"{max(latencies):.3g} ms"
    axis = f"{'':8}{left}{right:>{WIDTH - len(left)}}"
    legend = f"{'':8}{WINNER} chosen  {ON_FRONT} front  {FITS} fits too  {REJECTED} does not fit"
    return [*lines, axis, legend]


def _scale(values: Sequence[float], cells: int) -> list[int]:
    """The cell of each value, 0 to cells - 1."""
    low, span = min(values), max(values) - min(values)
    return [round((value - low) / span * (cells - 1)) if span else 0 for value in values]

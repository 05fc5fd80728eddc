"""A choice of students as text: rejected students, the Pareto front, and a plot of accuracy over latency."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcs_edge.utils.durations import format_ms

if TYPE_CHECKING:
    from tcs_edge.students.choice import Assessment, Choice

logger = logging.getLogger(__name__)

WIDTH, HEIGHT = 60, 12
SHOWN = 5
# Later ones are drawn over earlier ones.
REJECTED, FITS, ON_FRONT, WINNER = "x", ".", "o", "#"


def log_rejected(choice: Choice) -> None:
    """Log how many students each limit rejects and the nearest one; every rejected student at DEBUG."""
    for line in rejected_lines(choice.rejected, len(choice.accepted) + len(choice.rejected)):
        logger.info(line)
    for found in choice.rejected:
        logger.debug(f"  rejected: {'; '.join(found.reasons)}")


def rejected_lines(rejected: Sequence[Assessment], students: int) -> list[str]:
    """Return two lines about the rejected ones among `students`: a count per limit, and the nearest one.

    The nearest one has the smallest largest ratio of value to limit.
    """
    if not rejected:
        return []
    counts = Counter(miss.limit for found in rejected for miss in found.misses)
    limits = ", ".join(f"{limit} {count}" for limit, count in counts.most_common())
    nearest = min(rejected, key=lambda found: max((miss.ratio for miss in found.misses), default=math.inf))
    return [
        f"rejected: {len(rejected)} of {students} students (over a limit: {limits})",
        f"  nearest: {nearest.label}, {' and '.join(miss.text for miss in nearest.misses)}",
    ]


def log_pareto_front(choice: Choice) -> None:
    """Log the most accurate students of the Pareto front; the whole front and its plot at DEBUG.

    Nothing is logged for a student that the user named.
    """
    if choice.named:
        return
    # Accuracies of another search have another scale: they are left out of the plot.
    fitting, rejected = (
        [found for found in group if found.expected and found.expected.search == choice.search]
        for group in (choice.accepted, choice.rejected)
    )
    front = choice.front
    best = sorted(front, key=lambda found: found.expected.percent if found.expected else 0.0)[-SHOWN:]
    shown = [found for found in front if found in best]
    more = f", the {len(shown)} most accurate of {len(front)}" if len(front) > len(shown) else ""
    logger.info(f"Pareto-optimal students (accuracy, latency, size){more}:")
    for line in pareto_lines(shown):
        logger.info(line)
    for line in pareto_lines([found for found in front if found not in shown]):
        logger.debug(line)
    for line in draw_pareto(fitting, rejected, front, choice.winner.label):
        logger.debug(line)


def draw_pareto(
    fitting: Sequence[Assessment], rejected: Sequence[Assessment], front: Sequence[Assessment], winner: str | None
) -> list[str]:
    """Return the lines of a plot: expected accuracy in percent upwards, median latency in ms (log scale) to the right.

    Students of unknown latency or accuracy are left out; there is no plot for fewer than two students.

    Args:
        winner: label of the chosen student.
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
    """Return one line for each student of the Pareto front, in the given order."""
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
    left, right = f"{format_ms(min(latencies))} ms", f"{format_ms(max(latencies))} ms"
    axis = f"{'':8}{left}{right:>{WIDTH - len(left)}}"
    legend = f"{'':8}{WINNER} chosen  {ON_FRONT} front  {FITS} fits too  {REJECTED} does not fit"
    return [*lines, axis, legend]


def _scale(values: Sequence[float], cells: int) -> list[int]:
    """Cell of each value, 0 to cells - 1."""
    low, span = min(values), max(values) - min(values)
    return [round((value - low) / span * (cells - 1)) if span else 0 for value in values]

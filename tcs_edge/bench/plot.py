"""Plot of a comparison: an SVG in the reader's light or dark theme."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from tcs_edge.bench.rows import Row
from tcs_edge.report.page.charts import Series, legend, series_class, series_line
from tcs_edge.report.page.environment import svg_document
from tcs_edge.report.page.plane import WIDE
from tcs_edge.report.page.svg import Axis, drawing, element, frame, line, padded, path, text, text_width

CURVES_PX, ROW_PX = 260, 24
TITLE_PX, TICKS_PX = 24, 46
ACCURACY = "test accuracy %"


def accuracy_svg(rows: Sequence[Row]) -> str:
    """Draw accuracy by method, with every seed as a dot; with several numbers of shots, as curves over shots.

    One panel per student, all on one scale.
    """
    arms = list(dict.fromkeys(row.arm for row in rows))
    panels: list[Markup] = []
    if len({row.shots for row in rows}) > 1:
        panels += legend([Series(arm, ()) for arm in arms], WIDE)
        top, draw = 28 + 18 * len(panels), _curves
    else:
        top, draw = 0, _dots
    for student in dict.fromkeys(row.student for row in rows):
        height, drawn = draw([row for row in rows if row.student == student], arms, rows)
        title = text(0, 14, student, "mark-label")
        panel = element("g", drawn, transform=f"translate(0 {TITLE_PX})")
        panels.append(element("g", title, panel, transform=f"translate(0 {top})"))
        top += TITLE_PX + height
    return svg_document(drawing(WIDE, top, f"Test accuracy of {', '.join(arms)}, by student.", *panels))


def _curves(rows: Sequence[Row], arms: Sequence[str], every: Sequence[Row]) -> tuple[int, Markup]:
    """Draw mean accuracy over shots, with an interval of one standard deviation over the seeds.

    Returns:
        Height in pixels, and the drawing.
    """
    shots = sorted({row.shots or 1 for row in every})
    x = Axis(shots[0], shots[-1], start=44, end=WIDE - 12, log=True)
    y = Axis(*padded([end for row in every for end in _ends(row)]), start=CURVES_PX - TICKS_PX, end=26)
    parts = [frame(x, y, "training images per class", ACCURACY, shots)]
    for number, arm in enumerate(arms):
        own = [row for row in rows if row.arm == arm]
        low, high = ([(x(row.shots or 1), y(_ends(row)[end])) for row in own] for end in (0, 1))
        means = Series(arm, tuple((row.shots or 1, 100 * row.accuracy) for row in own))
        parts += [path([*low, *reversed(high)], f"spread {series_class(number)}")] if own else []
        parts += [series_line(means, series_class(number), x, y)] if own else []
    return CURVES_PX, Markup("").join(parts)


def _dots(rows: Sequence[Row], arms: Sequence[str], every: Sequence[Row]) -> tuple[int, Markup]:
    """Draw one row per method: seeds as dots, mean as a bar, standard deviation as a line.

    Returns:
        Height in pixels, and the drawing.
    """
    bottom = ROW_PX * len(arms)
    values = [100 * one for row in every for one in row.accuracies] + [end for row in every for end in _ends(row)]
    x = Axis(*padded(values), start=max(map(text_width, arms)) + 16, end=WIDE - 12)
    parts = [line(x(value), 0, x(value), bottom, "grid") for value in x.ticks()]
    parts += [text(x(value), bottom + 16, f"{value:g}", anchor="middle") for value in x.ticks()]
    parts += [text(x.start - 10, ROW_PX * (level + 0.5) + 4, arm, anchor="end") for level, arm in enumerate(arms)]
    parts += [line(x.start, bottom, x.end, bottom, "axis"), text(x.end, bottom + 34, ACCURACY, anchor="end")]
    for row in rows:
        level, style = ROW_PX * (arms.index(row.arm) + 0.5), series_class(arms.index(row.arm))
        (low, high), mean = _ends(row), x(100 * row.accuracy)
        parts += [line(x(low), level, x(high), level, f"deviation {style}")]
        parts += [line(mean, level - 8, mean, level + 8, f"mean {style}")]
        parts += [_seed(x(100 * one), level, f"seed {seed}: {100 * one:.2f} %", style)
                  for seed, one in zip(row.seeds, row.accuracies, strict=True)]  # fmt: skip
    return bottom + TICKS_PX, Markup("").join(parts)


def _seed(across: float, level: float, title: str, style: str) -> Markup:
    return element("circle", element("title", title), cx=across, cy=level, r=4.0, class_=f"dot {style}")


def _ends(row: Row) -> tuple[float, float]:
    """Mean accuracy in percent minus and plus one standard deviation over the seeds."""
    mean, deviation = 100 * row.accuracy, 100 * (row.deviation or 0.0)
    return mean - deviation, mean + deviation

"""The plot of a comparison: an SVG that follows the reader's light or dark theme."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tcs_edge.bench.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# At least 3:1 against white and against the near-black of dark themes; told apart by marker and dash too.
COLORS = ("#2f7fd0", "#c9661a", "#2e9e68", "#a367cf", "#d1497f", "#8a8a2c", "#2b9fa8", "#8f7a66")
MARKERS = "osD^vPX*"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
# Stands for the theme's ink until the SVG is written: matplotlib knows no CSS.
INK = "#010203"
STYLE = """<style>
svg { --ink: #24292f; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { svg { --ink: #dfe5ec; } }
</style>
"""
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "tcs-edge", "font.family": "sans-serif", "font.size": 10,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "legend.frameon": False,
}  # fmt: skip


def accuracy_svg(rows: Sequence[Row]) -> str:
    """Accuracy by method with every seed as a dot; with several numbers of shots, curves with bands.

    One panel per student. The SVG has no background, and text in the theme's own ink.
    """
    import matplotlib  # here: it takes half a second that only this needs
    from matplotlib.figure import Figure

    students = list(dict.fromkeys(row.student for row in rows))
    arms = list(dict.fromkeys(row.arm for row in rows))
    curves = len({row.shots for row in rows}) > 1
    with matplotlib.rc_context(SETTINGS):
        height = 3.6 if curves else 1.2 + 0.42 * len(arms)
        figure = Figure(figsize=(1.6 + 4.8 * len(students), height), layout="constrained")
        for student, axes in zip(
            students, figure.subplots(1, len(students), sharey=True, squeeze=False)[0], strict=True
        ):
            own = [row for row in rows if row.student == student]
            (_draw_curves if curves else _draw_dots)(axes, own, arms)
            axes.set_title(student, loc="left")
            axes.label_outer()
        if curves:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
        return _themed(figure)


def _draw_curves(axes: Axes, rows: Sequence[Row], arms: Sequence[str]) -> None:
    """Mean accuracy against shots; the band is one standard deviation over the seeds."""
    for number, arm in enumerate(arms):
        own = [row for row in rows if row.arm == arm]
        shots = [row.shots or 0 for row in own]
        means = [100 * row.accuracy for row in own]
        spread = [100 * (row.deviation or 0.0) for row in own]
        low, high = ([mean + sign * sd for mean, sd in zip(means, spread, strict=True)] for sign in (-1, 1))
        look = {"color": _of(COLORS, number), "marker": _of(MARKERS, number), "linestyle": _of(DASHES, number)}
        axes.plot(shots, means, label=arm, markersize=5, **look)
        axes.fill_between(shots, low, high, color=look["color"], alpha=0.1, linewidth=0)
    ticks = sorted({row.shots or 0 for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="training images per class", ylabel="test accuracy %")
    axes.grid(axis="y", color=INK, alpha=0.15)


def _draw_dots(axes: Axes, rows: Sequence[Row], arms: Sequence[str]) -> None:
    """One line per method: its seeds as dots, their mean as a bar, one standard deviation as a line."""
    for row in rows:
        level, color = arms.index(row.arm), _of(COLORS, arms.index(row.arm))
        mean, spread = 100 * row.accuracy, 100 * (row.deviation or 0.0)
        axes.plot([mean - spread, mean + spread], [level, level], color=color, linewidth=1.5)
        axes.plot(mean, level, marker="|", markersize=16, markeredgewidth=2.5, color=color)
        axes.plot([100 * one for one in row.accuracies], [level] * len(row.seeds), "o", color=color, alpha=0.55)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel("test accuracy %")
    axes.grid(axis="x", color=INK, alpha=0.15)


def _of(looks: Sequence[Any], number: int) -> Any:
    return looks[number % len(looks)]


def _themed(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    head, tag, body = buffer.getvalue().partition("<svg")
    opening, end, rest = body.partition(">\n")
    return head + tag + opening + end + STYLE + rest.replace(INK, "var(--ink)")

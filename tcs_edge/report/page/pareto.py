"""The students of a choice as an SVG file of its own: accuracy over latency, with the front that no student beats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tcs_edge.report.page.charts import Point, choice_points, search_of, students_plane
from tcs_edge.report.page.environment import resource
from tcs_edge.runs.documents import ChoiceRecord
from tcs_edge.specs.config import SearchName
from tcs_edge.students.choice import Assessment


def choice_svg(choice: ChoiceRecord) -> str | None:
    """The drawing of a run's choice; None where fewer than two students can be drawn."""
    return pareto_svg(choice_points(choice), choice.limits.get("max_latency_ms"), search_of(choice))


def assessments_svg(assessments: Iterable[Assessment], max_latency_ms: float | None) -> str | None:
    """The drawing of students that nobody chose from yet; None where fewer than two can be drawn."""
    points = [
        Point(found.label, found.latency.p50_ms, found.latency.high_ms, found.expected.percent, _kind(found))
        for found in assessments
        if found.latency and found.expected
    ]
    return pareto_svg(points, max_latency_ms, "table")


def pareto_svg(points: Sequence[Point], max_latency_ms: float | None, search: SearchName) -> str | None:
    """An SVG document that follows its reader's light or dark theme; None for fewer than two points."""
    if len(points) < 2:
        return None
    opening, drawn = students_plane(points, max_latency_ms, search).split(">", 1)
    style = f"<style>\n{resource('chart.css')}svg {{ background: var(--page); }}\n</style>"
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{style}{drawn}\n'


def _kind(found: Assessment) -> str:
    return "rejected" if found.reasons else "fits"

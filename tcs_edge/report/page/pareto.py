"""Draw the students of a selection as an SVG file: accuracy over latency, with the Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tcs_edge.report.page.charts import choice_points, search_of, students_plane
from tcs_edge.report.page.environment import svg_document
from tcs_edge.report.page.plane import Point
from tcs_edge.runs.documents import ChoiceRecord
from tcs_edge.specs.options import SearchName
from tcs_edge.students.choice import Assessment


def choice_svg(choice: ChoiceRecord) -> str | None:
    """Draw the student selection of a run; None for fewer than two students with known values."""
    return pareto_svg(choice_points(choice), choice.limits.get("max_latency_ms"), search_of(choice))


def assessments_svg(assessments: Iterable[Assessment], max_latency_ms: float | None) -> str | None:
    """Draw candidates before a selection; None for fewer than two students with known values."""
    points = [
        Point(found.label, found.latency.p50_ms, found.latency.high_ms, found.expected.percent, _kind(found))
        for found in assessments
        if found.latency and found.expected
    ]
    return pareto_svg(points, max_latency_ms, "table")


def pareto_svg(points: Sequence[Point], max_latency_ms: float | None, search: SearchName) -> str | None:
    """Return an SVG document that follows the system's light or dark theme; None for fewer than two points."""
    if len(points) < 2:
        return None
    return svg_document(students_plane(points, max_latency_ms, search))


def _kind(found: Assessment) -> str:
    return "rejected" if found.reasons else "fits"

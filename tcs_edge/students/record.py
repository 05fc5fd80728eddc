"""A choice as a JSON document: every candidate, its numbers, and the limits that it exceeds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from tcs_edge.latency.cost_model import shipped_cost_model
from tcs_edge.models.candidates import LEFT_OUT
from tcs_edge.specs.target import Limits, Precision
from tcs_edge.students.choice import Assessment, pareto_front_of

SCHEMA_VERSION = 1


def choice_document(
    assessments: Iterable[Assessment], target: str, img_size: int, num_classes: int, limits: Limits, winner: str | None
) -> dict[str, Any]:
    """Return the document of a choice, as `candidates --json` prints it.

    Args:
        assessments: in the order to list them.
        winner: name of the chosen student; None if there is none.
    """
    listed = list(assessments)
    front = [found.candidate.name for found in pareto_front_of(found for found in listed if not found.reasons)]
    return {
        "schema_version": SCHEMA_VERSION,
        "target": target,
        "img_size": img_size,
        "limits": limits.model_dump(mode="json", exclude_none=True),
        "winner": winner,
        "front": front,
        "candidates": [_entry(found, num_classes, found.candidate.name in front) for found in listed],
        "left_out": dict(LEFT_OUT),
    }


def _entry(found: Assessment, num_classes: int, on_pareto_front: bool) -> dict[str, Any]:
    candidate = found.candidate
    return {
        "name": candidate.name,
        "kind": candidate.kind,
        "img_sizes": shipped_cost_model().sizes(candidate.name),
        "params_m": candidate.total_params_m(num_classes),
        "macs_m_at_224": candidate.macs_m,
        "size_mb": found.size_mb,
        "exported": {
            precision: {
                "bytes": round(1e6 * candidate.size_mb(num_classes, precision)),
                "source": candidate.size_source,
            }
            for precision in get_args(Precision)
        },
        "expected_accuracy": found.expected.to_json() if found.expected else None,
        "imagenet_top1_percent": candidate.top1,
        "imagenet_top1_img_size": candidate.top1_img_size,
        "weights": candidate.weights,
        "license": candidate.license,
        "latency": found.latency.to_json() if found.latency else None,
        "on_pareto_front": on_pareto_front,
        "rejected_because": list(found.reasons),
    }

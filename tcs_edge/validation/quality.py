"""Check the metrics of the trained model against the limits of the run."""

from __future__ import annotations

from collections.abc import Sequence

from tcs_edge.specs.options import LimitOptions
from tcs_edge.validation.checks import LEAST_F1, LEAST_RECALL, MOST_ECE, Check, at_least, at_most, holds
from tcs_edge.validation.metrics import Metrics

SHOWN_CLASSES = 5


def metric_checks(found: Metrics, classes: Sequence[str], limits: LimitOptions) -> list[Check]:
    """Return one check per limit on recall, macro F1 and calibration error; a number that is missing fails its limit.

    Args:
        classes: class names, in the order of the logits.
    """
    checks = []
    if limits.min_class_recall is not None:
        checks.append(_recall_check(found, classes, limits.min_class_recall))
    if limits.min_macro_f1 is not None:
        detail = "mean over the classes with test images"
        checks.append(at_least(LEAST_F1, found.macro_f1, limits.min_macro_f1, "", detail))
    if limits.max_ece is not None and found.ece is None:
        checks.append(holds(MOST_ECE, False, "cannot check this limit: not all logits are finite"))
    elif limits.max_ece is not None and found.ece is not None:
        detail = f"{found.bins} bins of equal width; few images inflate it"
        checks.append(at_most(MOST_ECE, found.ece, limits.max_ece, "", detail))
    return checks


def _recall_check(found: Metrics, classes: Sequence[str], least: float) -> Check:
    """Check the recall of every class; the detail names the classes below the limit, lowest first."""
    empty = [name for name, recall in zip(classes, found.recalls, strict=True) if recall.value is None]
    if empty:
        return holds(LEAST_RECALL, False, f"cannot check this limit: no test image of {_some(empty)}. Add test images")
    values = [recall.value if recall.value is not None else 0.0 for recall in found.recalls]
    order = sorted(range(len(values)), key=values.__getitem__)
    low = [f"{classes[i]} ({found.recalls[i].correct} of {found.recalls[i].total})" for i in order if values[i] < least]
    return at_least(LEAST_RECALL, min(values), least, "of images", _some(low))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
    return ", ".join(names[:SHOWN_CLASSES]) + more

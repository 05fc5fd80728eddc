"""Sentences on calibrated confidence, unknown images and int8 losses, for summary, model card and page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from tcs_edge.runs.schema import AccuracyLossRecord, Manifest

REFERENCE = "pytorch"


def confidence_lines(manifest: Manifest) -> Iterator[str]:
    """Yield the calibration error before and after the temperature, and the rule for unknown images.

    Yield nothing for a run without a calibration.
    """
    found = manifest.confidence
    if found is None:
        return
    after = manifest.metrics.get(REFERENCE)
    if found.ece_before is not None and after is not None and after.ece is not None:
        yield (
            f"calibration: temperature {found.temperature:.2f}, ECE {100 * found.ece_before:.1f} % before, "
            f"{100 * after.ece:.1f} % after, on the test images"
        )
    if found.unknown is None:
        yield "unknown images: no threshold, because there are too few validation images for the false-alarm rate"
        return
    alarms = found.false_alarms.get(REFERENCE)
    measured = (
        f", measured {100 * alarms.value:.1f} % (95 % interval {100 * alarms.low:.1f} to {100 * alarms.high:.1f})"
        if alarms
        else ""
    )
    yield (
        f"unknown images: largest probability below {100 * found.unknown.below:.1f} %; false alarms: "
        f"at most {100 * found.unknown.false_alarm_rate:g} % expected{measured}"
    )


def loss_lines(manifest: Manifest) -> Iterator[str]:
    """Yield the accuracy loss of every int8 model file for preprocessed input, on the validation images."""
    for artifact in manifest.artifacts:
        loss = artifact.loss
        if loss is None or artifact.input != "image":
            continue
        found = f"lost {100 * loss.value:.1f} points of accuracy, at most {100 * loss.high:.1f} at 95 %"
        limit = f"limit {100 * loss.limit:g}"
        verdict = limit if loss.shown else f"{limit} not shown, released on request"
        evidence = f"({loss.images} validation images, {verdict})"
        yield f"{PurePosixPath(artifact.path).name}: {found} {evidence}{_training(loss)}"


def _training(loss: AccuracyLossRecord) -> str:
    """Return the remark on a file that missed the limit by calibration; empty for other files."""
    if loss.by_calibration is None:
        return ""
    epochs = "1 epoch" if loss.finetuned_epochs == 1 else f"{loss.finetuned_epochs} epochs"
    return f"; {epochs} of training with simulated int8, after {100 * loss.by_calibration:.1f} points by calibration"

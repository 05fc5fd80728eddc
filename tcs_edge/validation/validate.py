"""Are the exported models the trained one? Every doubt counts as no.

All limits stand in `checks.py`. A runner that fails, a logit that is not finite, a missing image: each is a
failed check, and one failed check makes the verdict "fail".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tcs_edge.errors import DataError, UsageError, reason_of
from tcs_edge.progress import Reporter, Silent
from tcs_edge.runtimes.base import Runner
from tcs_edge.validation.accuracy import Accuracy
from tcs_edge.validation.checks import (
    Check,
    accuracy_check,
    at_most,
    holds,
    labels_check,
    parity_checks,
    tolerance_for,
)
from tcs_edge.validation.hostile import hostile_images
from tcs_edge.validation.parity import Parity, compare
from tcs_edge.validation.predictions import Predictions

SCHEMA_VERSION = 1
OWN_ROUNDING = 10.0  # times the reference's own sensitivity is still rounding
Batch = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Validation:
    """The outcome: every check, and what was measured per runner name (the reference included).

    Attributes:
        images: how many were compared.
        precisions: arithmetic per runner, such as {"pytorch": "f32"}.
        accuracies: on those images; absent for a runner that crashed.
        parities: per exported runner that ran to the end.
        predictions: of the reference, image by image.
    """

    images: int
    checks: tuple[Check, ...]
    precisions: dict[str, str]
    accuracies: dict[str, Accuracy]
    parities: dict[str, Parity]
    predictions: Predictions | None = None

    @property
    def verdict(self) -> Literal["pass", "fail"]:
        """ "pass" when there is at least one check and all of them passed."""
        return "pass" if self.checks and all(check.passed for check in self.checks) else "fail"

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    def to_json(self) -> dict[str, Any]:
        """A JSON document of everything but the predictions, which name single images."""
        return {
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict,
            "images": self.images,
            "checks": [check.to_json() for check in self.checks],
            "precisions": dict(self.precisions),
            "accuracies": {name: accuracy.to_json() for name, accuracy in self.accuracies.items()},
            "parities": {name: parity.to_json() for name, parity in self.parities.items()},
        }


def validate(
    reference: Runner,
    runners: Sequence[Runner],
    batches: Iterable[Batch],
    *,
    classes: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> Validation:
    """Compare `runners` with `reference` on (images float32 (B, 3, S, S), labels int (B,)) batches.

    One batch and all logits are in memory, never all images. `classes` are the trained class names that
    every artifact has to hold too. A runner's `precision` decides which limits apply to it.

    Raises:
        UsageError: no runners, two of one name, or a precision without limits.
        DataError: no images, or a batch whose labels do not fit.
        TcsEdgeError: whatever `reference` raises; without it there is nothing to compare with.
    """
    _require_runners(reference, runners)
    run = _collect(reference, runners, batches, reporter or Silent())
    checks: list[Check] = []
    parities: dict[str, Parity] = {}
    accuracies = {reference.name: Accuracy.of(run.logits[reference.name], run.labels)}
    for runner in runners:
        checks += _judge(runner, reference, run, parities, accuracies)
        if classes is not None:
            checks.append(labels_check(runner.name, runner.labels, classes))
    precisions = {runner.name: runner.precision for runner in (reference, *runners)}
    predictions = Predictions.of(run.logits[reference.name], run.labels)
    return Validation(len(run.labels), tuple(checks), precisions, accuracies, parities, predictions)


@dataclass(frozen=True)
class _Collected:
    """Logits (N, classes) per runner that ran, why the others did not, and the first images."""

    labels: np.ndarray
    logits: dict[str, np.ndarray]
    crashes: dict[str, str]
    first_images: np.ndarray


def _require_runners(reference: Runner, runners: Sequence[Runner]) -> None:
    names = [runner.name for runner in (reference, *runners)]
    if not runners:
        raise UsageError("nothing to validate: no exported model was given.")
    if len(set(names)) != len(names):
        raise UsageError(f"two runners have the same name: {', '.join(names)}.")
    for runner in runners:
        tolerance_for(runner.precision)


def _collect(reference: Runner, runners: Sequence[Runner], batches: Iterable[Batch], reporter: Reporter) -> _Collected:
    parts: dict[str, list[np.ndarray]] = {runner.name: [] for runner in (reference, *runners)}
    crashes: dict[str, str] = {}
    labels: list[np.ndarray] = []
    first = np.empty(0)
    for images, batch_labels in _checked(reporter.track(batches, "comparing with the trained model")):
        first = first if labels else images[:4]
        labels.append(batch_labels)
        parts[reference.name].append(reference.run(images))
        for runner in runners:
            if runner.name not in crashes:
                _run_or_note(runner, images, parts, crashes)
    if not labels:
        raise DataError("no images to validate on: nothing is proven without them.")
    ran = {name: np.concatenate(part) for name, part in parts.items() if name not in crashes}
    return _Collected(np.concatenate(labels), ran, crashes, first)


def _checked(batches: Iterable[Batch]) -> Iterator[Batch]:
    for images, labels in batches:
        if len(images) != len(labels):
            raise DataError(f"a batch has {len(images)} images but {len(labels)} labels.")
        if len(images):
            yield images, np.asarray(labels)


def _run_or_note(
    runner: Runner, images: np.ndarray, parts: dict[str, list[np.ndarray]], crashes: dict[str, str]
) -> None:
    # Whatever a runtime throws means that the artifact does not work; it must end in a verdict.
    try:
        logits = runner.run(images)
        if logits.ndim != 2 or len(logits) != len(images):
            raise DataError(f"{len(images)} images gave an output of shape {logits.shape}.")
        parts[runner.name].append(logits)
    except Exception as error:
        crashes[runner.name] = reason_of(error)


def _judge(
    runner: Runner,
    reference: Runner,
    run: _Collected,
    parities: dict[str, Parity],
    accuracies: dict[str, Accuracy],
) -> list[Check]:
    """All checks of one runner; what was measured is added to `parities` and `accuracies`."""
    name = runner.name
    expected, crash = run.logits[reference.name], run.crashes.get(name, "")
    if not crash and run.logits[name].shape != expected.shape:
        crash = f"logits have shape {run.logits[name].shape}, the trained model's {expected.shape}"
    if crash:
        return [holds(f"{name}: runs on every image", False, crash)]
    logits, tolerance = run.logits[name], tolerance_for(runner.precision)
    parities[name] = compare(expected, logits)
    accuracies[name] = Accuracy.of(logits, run.labels)
    return [
        holds(f"{name}: runs on every image", True, f"{len(logits)} images, {runner.precision}"),
        *parity_checks(name, parities[name], float(np.abs(expected).max()), tolerance),
        accuracy_check(name, expected, logits, run.labels, tolerance.alpha),
        _batch_sizes_check(runner, run.first_images, tolerance.max_rel_diff),
        *_hostile_checks(runner, reference, run.first_images.shape[-1], tolerance.max_hostile_rel_diff),
    ]


def _batch_sizes_check(runner: Runner, images: np.ndarray, limit: float) -> Check:
    """The same images one by one, in pairs and at once: a batch size baked into the graph shows here."""
    name = f"{runner.name}: batch size does not matter"
    images = np.resize(images, (4, *images.shape[1:]))
    try:
        runs = [
            np.concatenate([runner.run(images[start : start + size]) for start in range(0, 4, size)])
            for size in (1, 2, 4)
        ]
    except Exception as error:  # as in _run_or_note
        return holds(name, False, reason_of(error))
    worst = max(compare(runs[0], other).max_rel_diff for other in runs[1:])
    return at_most(name, worst, limit, "of max |logit|", "batches of 1, 2 and 4")


def _hostile_checks(runner: Runner, reference: Runner, img_size: int, limit: float | None) -> list[Check]:
    """Black, white, noise and huge images: finite logits, and equal ones where there is a limit."""
    checks = []
    for kind, images in hostile_images(img_size).items():
        name = f"{runner.name}: {kind} image"
        try:
            expected, logits = reference.run(images), runner.run(images)
            parity = compare(expected, logits)
        except Exception as error:  # as in _run_or_note
            checks.append(holds(name, False, reason_of(error)))
            continue
        if limit is None or not parity.finite:
            checks.append(holds(name, parity.finite, "" if parity.finite else "a logit is NaN or Inf"))
        else:
            allowed = max(limit, OWN_ROUNDING * _own_rounding(reference, images, expected))
            checks.append(at_most(name, parity.max_rel_diff, allowed, "of max |logit|"))
    return checks


def _own_rounding(reference: Runner, images: np.ndarray, expected: np.ndarray) -> float:
    """How far the reference's own logits move when every input value moves by its last bit.

    A network that multiplies activations can be chaotic on huge inputs; equality means nothing there.
    """
    moved = np.nextafter(images, np.float32(np.inf), dtype=np.float32)
    return compare(expected, reference.run(moved)).max_rel_diff

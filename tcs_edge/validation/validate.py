"""Validate exported models against the trained model.

The limits are in `checks.py`. A failed runner, a logit that is not finite and a missing image are failed
checks. One failed check makes the verdict "fail".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tcs_edge.errors import UsageError, reason_of
from tcs_edge.runtimes.base import Runner, outputs_of
from tcs_edge.specs.confidence import Confidence
from tcs_edge.utils.progress import track
from tcs_edge.validation.accuracy import Accuracy, PairedAccuracy
from tcs_edge.validation.checks import (
    INT8,
    QUALITY,
    Check,
    Tolerance,
    accuracy_checks,
    at_most,
    embedding_checks,
    holds,
    labels_check,
    parity_checks,
    tolerance_for,
)
from tcs_edge.validation.confidence import ConfidenceResult
from tcs_edge.validation.hostile import hostile_images
from tcs_edge.validation.metrics import Metrics
from tcs_edge.validation.parity import Parity, compare
from tcs_edge.validation.predictions import Predictions
from tcs_edge.validation.tally import Batch, Tally, collect

SCHEMA_VERSION = 1
OWN_ROUNDING = 10.0  # allowed difference, as a multiple of the reference's own sensitivity
ROUNDINGS = 4  # draws, because a network may be insensitive to a single direction


@dataclass(frozen=True)
class Validation:
    """Outcome of a validation: every check, and the results per runner name, reference included.

    Attributes:
        images: number of compared images.
        precisions: arithmetic per runner, such as {"pytorch": "f32"}.
        accuracies: accuracy on these images; absent for a runner that crashed.
        parities, paired: results per exported runner without a crash.
        predictions: the reference's prediction for every image.
        classes: number of logits per image.
        only_here: runners in an arithmetic of this machine alone. They have results, but no checks.
        metrics: metrics beside accuracy, per name in `accuracies`.
        class_names: names of the classes; empty if they are unknown.
        confidence: calibration error before the temperature, and images of known classes called unknown.
        embeddings: distance of the embeddings, as `parities`; empty without embeddings. Fields of classes mean nothing.
        embedding_size: values of an embedding; 0 without.
    """

    images: int
    checks: tuple[Check, ...]
    precisions: dict[str, str]
    accuracies: dict[str, Accuracy]
    parities: dict[str, Parity]
    predictions: Predictions | None = None
    paired: dict[str, PairedAccuracy] = field(default_factory=dict)
    classes: int = 0
    only_here: tuple[str, ...] = ()
    metrics: dict[str, Metrics] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    confidence: ConfidenceResult | None = None
    embeddings: dict[str, Parity] = field(default_factory=dict)
    embedding_size: int = 0

    @property
    def verdict(self) -> Literal["pass", "fail"]:
        """Return "pass" if there is at least one check and all passed, otherwise "fail"."""
        return _verdict(self.checks)

    @property
    def exports_verdict(self) -> Literal["pass", "fail"]:
        """Return the verdict on the exports: "pass" if they equal the trained model."""
        return _verdict([check for check in self.checks if check.name not in QUALITY])

    @property
    def quality_verdict(self) -> Literal["pass", "fail"] | None:
        """Return the verdict on the trained model itself; None without such a check."""
        own = [check for check in self.checks if check.name in QUALITY]
        return _verdict(own) if own else None

    def chance(self, runner: str) -> float:
        """Return the accuracy of a runner's predictions by chance, in 0..1; see `chance.chance_accuracy`."""
        found = self.metrics.get(runner)
        return found.chance if found else 1 / self.classes

    @property
    def failures(self) -> tuple[Check, ...]:
        """Failed checks."""
        return tuple(check for check in self.checks if not check.passed)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document of all fields except the predictions."""
        return {
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict,
            "exports_verdict": self.exports_verdict,
            "quality_verdict": self.quality_verdict,
            "images": self.images,
            "checks": [check.to_json() for check in self.checks],
            "precisions": dict(self.precisions),
            "accuracies": {name: accuracy.to_json() for name, accuracy in self.accuracies.items()},
            "metrics": {name: metrics.to_json() for name, metrics in self.metrics.items()},
            "confidence": self.confidence.to_json() if self.confidence else None,
            "parities": {name: parity.to_json() for name, parity in self.parities.items()},
            "paired": {name: paired.to_json() for name, paired in self.paired.items()},
            "only_here": list(self.only_here),
            **self._embeddings_json(),
        }

    def _embeddings_json(self) -> dict[str, Any]:
        if not self.embedding_size:
            return {}
        kept = ("max_abs_diff", "max_rel_diff", "max_centered_diff", "finite", "sqnr_db")
        found = {name: parity.to_json() for name, parity in self.embeddings.items()}
        return {"embeddings": {name: {key: values[key] for key in kept} for name, values in found.items()}}


def _verdict(checks: Sequence[Check]) -> Literal["pass", "fail"]:
    return "pass" if checks and all(check.passed for check in checks) else "fail"


def validate(
    reference: Runner,
    runners: Sequence[Runner],
    batches: Iterable[Batch],
    *,
    classes: Sequence[str] | None = None,
    names: Sequence[str] = (),
    max_int8_drop: float = INT8.max_accuracy_drop,
    only_here: Collection[str] = (),
    confidence: Confidence | None = None,
) -> Validation:
    """Compare `runners` with `reference` on batches of (images float32 (B, 3, S, S), labels int (B,)).

    Only one batch is in memory at a time. A runner's `precision` selects its limits.

    Args:
        classes: trained class names that every export must have; None leaves the check out.
        names: names of the images, to report changed classes; may be empty.
        max_int8_drop: accuracy that int8 may lose, in 0..1.
        confidence: temperature and threshold of the models; None measures neither.
        only_here: names of runners to measure without checks, because the target does not compute like them.

    Raises:
        UsageError: no runners, two runners of one name, or a precision without limits.
        DataError: no images, a batch with other numbers of images and labels, or fewer names than images.
        TcsEdgeError: any error of `reference`.
    """
    _require_runners(reference, runners)
    tracked = track(batches, "comparing with the trained model")
    run = collect(reference, runners, tracked, names, confidence)
    checks: list[Check] = []
    for runner in runners:
        if runner.name in only_here:
            continue
        tolerance = tolerance_for(runner.precision, max_int8_drop)
        checks += _judge(runner, reference, run.tallies[runner.name], run.first_images, tolerance)
        if classes is not None:
            checks.append(labels_check(runner.name, runner.labels, classes))
    ran = {name: tally for name, tally in run.tallies.items() if not tally.crash}
    unknown = {reference.name: run.unknown} | {name: tally.unknown for name, tally in ran.items()}
    return Validation(
        images=run.images,
        checks=tuple(checks),
        precisions={runner.name: runner.precision for runner in (reference, *runners)},
        accuracies={reference.name: run.reference_accuracy()} | {name: t.accuracy() for name, t in ran.items()},
        parities={name: tally.meter.result() for name, tally in ran.items()},
        predictions=run.predictions(),
        paired={name: tally.paired() for name, tally in ran.items()},
        classes=run.classes,
        only_here=tuple(runner.name for runner in runners if runner.name in only_here),
        metrics={reference.name: run.reference_metrics()} | {name: t.metrics() for name, t in ran.items()},
        class_names=tuple(classes or ()),
        confidence=run.uncalibrated.result(unknown, run.images) if run.uncalibrated else None,
        embeddings={name: tally.embedding.result() for name, tally in ran.items() if tally.embedding.images},
        embedding_size=reference.embedding_size,
    )


def _require_runners(reference: Runner, runners: Sequence[Runner]) -> None:
    names = [runner.name for runner in (reference, *runners)]
    if not runners:
        raise UsageError("nothing to validate. Pass at least one exported model.")
    if len(set(names)) != len(names):
        raise UsageError(f"two runners have the same name: {', '.join(names)}.")
    for runner in runners:
        tolerance_for(runner.precision)


def _judge(
    runner: Runner, reference: Runner, tally: Tally, first_images: np.ndarray, tolerance: Tolerance
) -> list[Check]:
    """Return all checks of one runner."""
    name = runner.name
    if tally.crash:
        return [holds(f"{name}: runs on every image", False, tally.crash)]
    parity = tally.meter.result()
    return [
        holds(f"{name}: runs on every image", True, _how_it_ran(runner, tally.meter.images)),
        *parity_checks(name, parity, tally.meter.scale, tolerance),
        *accuracy_checks(name, tally.paired(), tally.meter.images, tolerance),
        *(embedding_checks(name, tally.embedding.result(), tolerance) if tally.embedding.images else ()),
        _batch_sizes_check(runner, first_images, tolerance.max_rel_diff),
        *_hostile_checks(runner, reference, first_images.shape[-1], tolerance),
    ]


def _how_it_ran(runner: Runner, images: int) -> str:
    """Return the images, the arithmetic, and the settings of a runtime that has several."""
    settings = getattr(runner, "settings", "")
    return f"{images} images, {runner.precision}{f' ({settings})' if settings else ''}"


def _batch_sizes_check(runner: Runner, images: np.ndarray, limit: float) -> Check:
    """Run the same images one by one, in pairs and at once, to detect a fixed batch size in the graph."""
    name = f"{runner.name}: batch size does not matter"
    images = np.resize(images, (4, *images.shape[1:]))
    try:
        runs = [
            _joined([outputs_of(runner, images[start : start + size]) for start in range(0, 4, size)])
            for size in (1, 2, 4)
        ]
    except Exception as error:  # as in tally.collect
        return holds(name, False, reason_of(error))
    pairs = ((one, same) for other in runs[1:] for one, same in zip(runs[0], other, strict=True))
    worst = max(compare(one, same).max_rel_diff for one, same in pairs)
    return at_most(name, worst, limit, "of max |logit|", "batches of 1, 2 and 4")


def _joined(batches: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> list[np.ndarray]:
    """Return the logits of all batches, and the embeddings if there are any."""
    parts = zip(*batches, strict=True)
    return [np.concatenate(part) for part in parts if part[0] is not None]


def _hostile_checks(runner: Runner, reference: Runner, img_size: int, tolerance: Tolerance) -> list[Check]:
    """Check black, white, noise, tiny and huge images: finite outputs, and equal ones if there is a limit."""
    checks = []
    for kind, images in hostile_images(img_size, huge=tolerance.huge).items():
        name = f"{runner.name}: {kind} image"
        try:
            pairs = zip(outputs_of(reference, images), outputs_of(runner, images), strict=True)
            compared = [(one, compare(one, other)) for one, other in pairs if one is not None and other is not None]
        except Exception as error:  # as in tally.collect
            checks.append(holds(name, False, reason_of(error)))
            continue
        for output, (expected, parity) in enumerate(compared):
            limit = tolerance.max_hostile_rel_diff
            checks.append(_hostile_check(name, reference, images, output, expected, parity, limit))
    return checks


def _hostile_check(
    image: str,
    reference: Runner,
    images: np.ndarray,
    output: int,
    expected: np.ndarray,
    parity: Parity,
    limit: float | None,
) -> Check:
    """Check one output of one hostile image, 0 for the logits and 1 for the embedding."""
    name, value = (f"{image}, embedding", "value") if output else (image, "logit")
    if limit is None or not parity.finite:
        return holds(name, parity.finite, "" if parity.finite else f"a {value} is NaN or Inf")
    own = own_rounding(reference, images, expected, output) if parity.max_rel_diff > limit else 0.0
    allowed = max(limit, OWN_ROUNDING * own)
    detail = f"the trained model changes by {own:.1e} with the last bits of its input" if allowed > limit else ""
    return at_most(name, parity.max_rel_diff, allowed, f"of max |{value}|", detail)


def own_rounding(reference: Runner, images: np.ndarray, expected: np.ndarray, output: int = 0) -> float:
    """Measure the change of an output of the reference when the last bit of every input value changes at random.

    A network can be chaotic on inputs far from its training data. Equal outputs are meaningless there.
    """
    rng = np.random.default_rng(0)
    moves = (np.where(rng.random(images.shape) < 0.5, -np.inf, np.inf).astype(np.float32) for _ in range(ROUNDINGS))
    moved = (outputs_of(reference, np.nextafter(images, towards))[output] for towards in moves)
    parities = [compare(expected, values) for values in moved if values is not None]
    return max(parity.max_rel_diff if parity.finite else 0.0 for parity in parities)

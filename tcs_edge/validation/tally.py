"""Accumulate the models' outputs while the images stream: sums, counts, and three numbers per image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tcs_edge.errors import DataError, reason_of
from tcs_edge.runtimes.base import Runner, outputs_of
from tcs_edge.specs.confidence import Confidence
from tcs_edge.validation.accuracy import Accuracy, PairedAccuracy, is_correct
from tcs_edge.validation.confidence import UncalibratedMeter, count_unknown
from tcs_edge.validation.metrics import Metrics, MetricsMeter
from tcs_edge.validation.parity import ParityMeter
from tcs_edge.validation.predictions import Predictions

KEPT_IMAGES = 4  # for the checks that run images again

Batch = tuple[np.ndarray, np.ndarray]
Outputs = tuple[np.ndarray, np.ndarray | None]  # logits and embedding


@dataclass
class Tally:
    """Sums of one exported model against the reference, over the batches so far.

    Attributes:
        confidence: threshold for unknown images; None counts none.
        embedding: meter of the embeddings; without images if the models have none.
        crash: reason of a failure; empty while the model runs.
    """

    confidence: Confidence | None = None
    meter: ParityMeter = field(default_factory=ParityMeter)
    embedding: ParityMeter = field(default_factory=ParityMeter)
    correct: int = 0
    only_reference: int = 0
    only_model: int = 0
    unknown: int = 0
    crash: str = ""
    _metrics: MetricsMeter = field(default_factory=MetricsMeter)

    def add(self, expected: np.ndarray, logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
        """Add a batch: logits of reference and model, float (B, classes), and labels int (B,)."""
        self.meter.add(expected, logits, names)
        self._metrics.add(logits, labels)
        first, second = is_correct(expected, labels), is_correct(logits, labels)
        self.correct += int(second.sum())
        self.only_reference += int((first & ~second).sum())
        self.only_model += int((~first & second).sum())
        self.unknown += count_unknown(logits, self.confidence)

    def accuracy(self) -> Accuracy:
        """Return the model's accuracy."""
        return Accuracy.of_counts(self.correct, self.meter.images)

    def metrics(self) -> Metrics:
        """Return the model's metrics beside accuracy."""
        return self._metrics.result()

    def paired(self) -> PairedAccuracy:
        """Return the model's accuracy against the reference."""
        return PairedAccuracy.of_counts(self.only_reference, self.only_model, self.meter.images)


@dataclass
class Collected:
    """All images so far: their number, the reference's predictions, the first images, and a tally per runner."""

    tallies: dict[str, Tally]
    images: int = 0
    reference_correct: int = 0
    classes: int = 0
    first_images: np.ndarray = field(default_factory=lambda: np.empty(0))
    _predictions: list[Predictions] = field(default_factory=list)
    uncalibrated: UncalibratedMeter | None = None
    unknown: int = 0
    _metrics: MetricsMeter = field(default_factory=MetricsMeter)

    def add(self, images: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> None:
        """Add a batch (B, 3, S, S), the reference's logits float (B, classes), and labels int (B,)."""
        if self.images == 0:
            self.first_images = images[:KEPT_IMAGES].copy()
        self.images += len(images)
        self.classes = expected.shape[1]
        self.reference_correct += int(is_correct(expected, labels).sum())
        self._predictions.append(Predictions.of(expected, labels))
        self._metrics.add(expected, labels)
        if self.uncalibrated:
            self.uncalibrated.add(expected, labels)
            self.unknown += count_unknown(expected, self.uncalibrated.confidence)

    def predictions(self) -> Predictions:
        """Return the reference's predictions of all images."""
        return Predictions.joined(self._predictions)

    def reference_accuracy(self) -> Accuracy:
        """Return the reference's accuracy."""
        return Accuracy.of_counts(self.reference_correct, self.images)

    def reference_metrics(self) -> Metrics:
        """Return the reference's metrics beside accuracy."""
        return self._metrics.result()


def collect(
    reference: Runner,
    runners: Sequence[Runner],
    batches: Iterable[Batch],
    names: Sequence[str],
    confidence: Confidence | None = None,
) -> Collected:
    """Run every model on every batch; a failed runner is skipped from then on.

    Args:
        names: names of the images in their order, or empty.
        confidence: temperature and threshold of the models; None measures neither.

    Raises:
        DataError: no images, a batch with other numbers of images and labels, or fewer names than images.
        TcsEdgeError: any error of `reference`.
    """
    uncalibrated = UncalibratedMeter(confidence) if confidence else None
    run = Collected({runner.name: Tally(confidence) for runner in runners}, uncalibrated=uncalibrated)
    for images, labels in _checked(batches):
        own_names = _names_of(names, run.images, len(images))
        expected = outputs_of(reference, images)
        run.add(images, expected[0], labels)
        for runner in runners:
            tally = run.tallies[runner.name]
            if not tally.crash:
                tally.crash = _add_or_explain(runner, tally, images, expected, labels, own_names)
    if run.images == 0:
        raise DataError("there are no images to validate on. Pass at least one image.")
    return run


def _checked(batches: Iterable[Batch]) -> Iterator[Batch]:
    for images, labels in batches:
        if len(images) != len(labels):
            raise DataError(f"a batch has {len(images)} images but {len(labels)} labels.")
        if len(images):
            yield images, np.asarray(labels)


def _names_of(names: Sequence[str], start: int, count: int) -> Sequence[str]:
    if not names:
        return ()
    if len(names) < start + count:
        raise DataError(f"there are at least {start + count} images but only {len(names)} names.")
    return names[start : start + count]


def _add_or_explain(
    runner: Runner, tally: Tally, images: np.ndarray, expected: Outputs, labels: np.ndarray, names: Sequence[str]
) -> str:
    """Add the runner's outputs to the tally; return the reason of a failure, or an empty text."""
    # Any exception of a runtime means that the export does not work, and must end in a verdict.
    try:
        logits, embedding = outputs_of(runner, images)
    except Exception as error:
        return reason_of(error)
    if logits.ndim != 2 or len(logits) != len(images):
        return f"{len(images)} images gave an output of shape {logits.shape}"
    if logits.shape != expected[0].shape:
        return f"logits have shape {logits.shape}, in the trained model {expected[0].shape}"
    shapes = [None if values is None else values.shape for values in (embedding, expected[1])]
    if shapes[0] != shapes[1]:
        return f"the embedding has shape {shapes[0]}, in the trained model {shapes[1]}"
    tally.add(expected[0], logits, labels, names)
    if embedding is not None and expected[1] is not None:
        tally.embedding.add(expected[1], embedding)
    return ""

"""Check the accuracy of int8 models on validation images, never on test images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tcs_edge.data import Preprocess, Split
from tcs_edge.data.cache import crop_all
from tcs_edge.errors import DataError
from tcs_edge.quantization.fallback import Round
from tcs_edge.runtimes.base import Runner, outputs_of
from tcs_edge.validation.checks import accuracy_checks, embedding_checks, parity_checks, tolerance_for
from tcs_edge.validation.parity import compare
from tcs_edge.validation.statistics import accuracy_drop
from tcs_edge.validation.tally import Tally

MOST_IMAGES = 2000  # 300 MB at 224 px; more images would narrow the interval little
BATCH = 32


@dataclass(frozen=True, eq=False)
class AccuracyCheck:
    """Validation images with the logits of the float32 model.

    Attributes:
        pixels: uint8 (N, S, S, 3), resized and cropped.
        labels: int64 (N,).
        expected: float32 (N, classes), logits of the float32 model.
        max_accuracy_drop: accuracy that may be lost, in 0..1.
        embeddings: float32 (N, k), of the float32 model; None for a model without.
    """

    pixels: np.ndarray
    labels: np.ndarray
    expected: np.ndarray
    preprocess: Preprocess
    max_accuracy_drop: float
    embeddings: np.ndarray | None = None

    def grade(self, runner: Runner, float_layers: tuple[str, ...]) -> Round:
        """Run the checks of the validation on `runner`, which has `float_layers` in float."""
        tally = Tally()
        logits, embeddings = answers(runner, self.pixels, self.preprocess)
        tally.add(self.expected, logits, self.labels, ())
        parity, paired = tally.meter.result(), tally.paired()
        tolerance = tolerance_for(runner.precision, self.max_accuracy_drop)
        checks = [
            *parity_checks("", parity, tally.meter.scale, tolerance),
            *accuracy_checks("", paired, len(self.labels), tolerance),
        ]
        if self.embeddings is not None and embeddings is not None:
            checks += embedding_checks("", compare(self.embeddings, embeddings), tolerance)
        failed = tuple(check.name.removeprefix(": ") for check in checks if not check.passed)
        accuracy = tally.accuracy().value
        return Round(
            float_layers, accuracy, paired.drop, paired.drop_high, parity.sqnr_db, failed, self.max_accuracy_drop
        )

    @property
    def can_hold(self) -> bool:
        """True if the images are enough to show that a model without any changed class is within the limit."""
        return accuracy_drop(0, 0, len(self.labels)).high <= self.max_accuracy_drop


def prepare_accuracy_check(
    split: Split, preprocess: Preprocess, reference: Runner, max_accuracy_drop: float, seed: int
) -> AccuracyCheck:
    """Decode the images of `split` once, at most `MOST_IMAGES`, and compute the logits of `reference`.

    Raises:
        DataError: no images, or an unreadable image.
    """
    if not len(split):
        raise DataError("int8 needs validation images to check its accuracy. Add some, or omit int8.")
    rows = np.random.default_rng(seed).permutation(len(split))[:MOST_IMAGES]
    pixels = crop_all(split, rows.tolist(), preprocess, "decoding validation images")
    logits, embeddings = answers(reference, pixels, preprocess)
    return AccuracyCheck(pixels, split.labels[rows], logits, preprocess, max_accuracy_drop, embeddings)


def answers(runner: Runner, pixels: np.ndarray, preprocess: Preprocess) -> tuple[np.ndarray, np.ndarray | None]:
    """Return logits float32 (N, classes) for uint8 images (N, S, S, 3), and embeddings float32 (N, k) or None."""
    starts = range(0, len(pixels), BATCH)
    batches = (pixels[start : start + BATCH] for start in starts)
    made = [outputs_of(runner, np.stack([preprocess.normalize(image) for image in b])) for b in batches]
    embeddings = [embedding for _, embedding in made if embedding is not None]
    return np.concatenate([logits for logits, _ in made]), np.concatenate(embeddings) if embeddings else None

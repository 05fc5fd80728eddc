"""The images an int8 model has to keep its accuracy on while it is made: validation images, never test images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tcs_edge.data import Preprocess, Split
from tcs_edge.errors import DataError
from tcs_edge.quantization.fallback import Round
from tcs_edge.runtimes.base import Runner
from tcs_edge.validation.checks import accuracy_checks, parity_checks, tolerance_for
from tcs_edge.validation.tally import Tally

MOST_IMAGES = 2000  # at 224 px they take 300 MB; more would sharpen the answer little
BATCH = 32


@dataclass(frozen=True, eq=False)
class AccuracyCheck:
    """Validation images, and what the float32 model says of them.

    Attributes:
        pixels: uint8 (N, S, S, 3), resized and cropped.
        labels: int64 (N,).
        expected: float32 (N, classes), logits of the float32 model.
        max_accuracy_drop: accuracy, a share, that may be lost.
    """

    pixels: np.ndarray
    labels: np.ndarray
    expected: np.ndarray
    preprocess: Preprocess
    max_accuracy_drop: float

    def grade(self, runner: Runner, float_layers: tuple[str, ...]) -> Round:
        """The proof's checks of `runner`, whose `float_layers` stayed float, on these images."""
        tally = Tally()
        tally.add(self.expected, answers(runner, self.pixels, self.preprocess), self.labels, ())
        parity, paired = tally.meter.result(), tally.paired()
        tolerance = tolerance_for(runner.precision, self.max_accuracy_drop)
        checks = [
            *parity_checks("", parity, tally.meter.scale, tolerance),
            *accuracy_checks("", paired, len(self.labels), tolerance),
        ]
        failed = tuple(check.name.removeprefix(": ") for check in checks if not check.passed)
        accuracy = tally.accuracy().value
        return Round(float_layers, accuracy, paired.drop, paired.drop_high, parity.sqnr_db, failed)


def prepare_accuracy_check(
    split: Split, preprocess: Preprocess, reference: Runner, max_accuracy_drop: float, seed: int
) -> AccuracyCheck:
    """Decode the images of `split` once, at most `MOST_IMAGES` of them, and let `reference` answer.

    Raises:
        DataError: no images, or one that cannot be read any more.
    """
    if not len(split):
        raise DataError("int8 needs validation images to hold its accuracy on. Add some, or leave int8 out.")
    rows = np.random.default_rng(seed).permutation(len(split))[:MOST_IMAGES]
    pixels = np.stack([np.asarray(preprocess.crop(split.image(int(row)))) for row in rows])
    return AccuracyCheck(
        pixels, split.labels[rows], answers(reference, pixels, preprocess), preprocess, max_accuracy_drop
    )


def answers(runner: Runner, pixels: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Logits float32 (N, classes) of uint8 pictures (N, S, S, 3)."""
    starts = range(0, len(pixels), BATCH)
    batches = (pixels[start : start + BATCH] for start in starts)
    return np.concatenate([runner.run(np.stack([preprocess.normalize(image) for image in b])) for b in batches])

"""Validate the ONNX files with built-in preprocessing against Pillow and the trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tcs_edge.data import Preprocess, Split
from tcs_edge.errors import DataError, reason_of
from tcs_edge.runtimes.base import Runner, outputs_of
from tcs_edge.runtimes.pixels import PixelsRunner
from tcs_edge.utils.progress import track
from tcs_edge.validation.checks import (
    Check,
    accuracy_checks,
    embedding_checks,
    holds,
    labels_check,
    parity_checks,
    tolerance_for,
)
from tcs_edge.validation.tally import Tally

ODD_SIZES = ((1, 1), (3, 500), (500, 3), (37, 64))


def pixels_checks(
    reference: Runner, path: Path, images: Split, preprocess: Preprocess, classes: Sequence[str], max_int8_drop: float
) -> list[Check]:
    """Compare the file with `reference` behind `preprocess` on every image, and try extreme image sizes."""
    try:
        with PixelsRunner(path) as runner:
            tally = _compared(reference, runner, images, preprocess)
            tolerance = tolerance_for(runner.precision, max_int8_drop)
            embedding = tally.embedding.result() if tally.embedding.images else None
            return [
                *parity_checks(runner.name, tally.meter.result(), tally.meter.scale, tolerance),
                *accuracy_checks(runner.name, tally.paired(), len(images), tolerance),
                *(embedding_checks(runner.name, embedding, tolerance) if embedding else ()),
                labels_check(runner.name, runner.labels, classes),
                _odd_sizes_check(runner),
            ]
    except DataError as error:
        return [holds(f"{path.name}: runs on every image", False, str(error))]


def _compared(reference: Runner, runner: PixelsRunner, images: Split, preprocess: Preprocess) -> Tally:
    tally = Tally()
    for row in track(range(len(images)), "comparing images", total=len(images)):
        image = images.image(row)
        expected, wanted = outputs_of(reference, preprocess(image)[None])
        logits, embedding = outputs_of(runner, np.asarray(image))
        tally.add(expected, logits, images.labels[row : row + 1], images.names[row : row + 1])
        if (wanted is None) != (embedding is None):
            raise DataError(f"{runner.name} and the trained model do not both have an embedding. Export again.")
        if wanted is not None and embedding is not None:
            tally.embedding.add(wanted, embedding)
    return tally


def _odd_sizes_check(runner: PixelsRunner) -> Check:
    """Check that one pixel, thin strips and a rectangle give finite logits."""
    name = f"{runner.name}: odd sizes"
    noise = np.random.default_rng(0)
    try:
        for height, width in ODD_SIZES:
            image = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
            if not np.isfinite(runner.run(image)).all():
                return holds(name, False, f"NaN or Inf in the logits of a {width} x {height} image")
    except DataError as error:
        return holds(name, False, reason_of(error))
    return holds(name, True, f"{len(ODD_SIZES)} sizes")

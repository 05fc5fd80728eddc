"""Write golden.npz: test images with the expected inputs and logits of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tcs_edge.data import Preprocess, Split
from tcs_edge.runtimes.base import Runner, outputs_of
from tcs_edge.utils.files import atomic_path

GOLDEN_IMAGES = 16
LONGEST_PX = 640  # of a stored image; larger ones are shrunk first, to keep the bundle small


def write_golden(path: Path, images: Split, preprocess: Preprocess, runner: Runner) -> None:
    """Write `GOLDEN_IMAGES` test images, spread over the classes, with inputs and logits.

    image_000, ...: uint8 (H, W, 3) RGB. inputs: float32 (N, 3, S, S). logits: float32 (N, classes).
    embeddings: float32 (N, k), if the model has them. labels: int64 (N,), the true classes. Equal runs write equal
    bytes.

    Raises:
        DataError: an image is not readable.
    """
    rows = spread_over_classes(images.labels, GOLDEN_IMAGES)
    small = [_small(images.image(row)) for row in rows]
    inputs = np.stack([preprocess(image) for image in small])
    arrays = {f"image_{index:03d}": np.asarray(image) for index, image in enumerate(small)}
    logits, embeddings = outputs_of(runner, inputs)
    if embeddings is not None:
        arrays["embeddings"] = embeddings
    with atomic_path(path) as draft:
        np.savez_compressed(
            draft, inputs=inputs, logits=logits, labels=images.labels[rows], allow_pickle=False, **arrays
        )


def spread_over_classes(labels: np.ndarray, count: int) -> list[int]:
    """Return rows of at most `count` images: the first of every class, then the second of every class, and so on."""
    seen: dict[int, int] = {}
    turns = []
    for row, label in enumerate(labels.tolist()):
        turns.append((seen.get(label, 0), label, row))
        seen[label] = seen.get(label, 0) + 1
    return [row for _, _, row in sorted(turns)[:count]]


def _small(image: Image.Image) -> Image.Image:
    if max(image.size) > LONGEST_PX:
        image.thumbnail((LONGEST_PX, LONGEST_PX))
    return image

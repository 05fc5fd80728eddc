"""golden.npz: real test pictures, what the model must see of them, and what it must answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tcs_edge.data import Preprocess, Split
from tcs_edge.runtimes.base import Runner
from tcs_edge.utils.files import atomic_path

GOLDEN_IMAGES = 16
LONGEST_PX = 640  # of a stored picture: larger ones are made smaller first, so that a bundle stays small


def write_golden(path: Path, images: Split, preprocess: Preprocess, runner: Runner) -> None:
    """Write `GOLDEN_IMAGES` pictures of as many classes as there are, with inputs and logits.

    image_000, ...: uint8 (H, W, 3) RGB. inputs: float32 (N, 3, S, S). logits: float32 (N, classes).
    labels: int64 (N,), the true classes. The same run gives the same bytes.

    Raises:
        DataError: a picture that cannot be read any more.
    """
    rows = spread_over_classes(images.labels, GOLDEN_IMAGES)
    pictures = [_small(images.image(row)) for row in rows]
    inputs = np.stack([preprocess(picture) for picture in pictures])
    arrays = {f"image_{index:03d}": np.asarray(picture) for index, picture in enumerate(pictures)}
    with atomic_path(path) as draft:
        np.savez_compressed(
            draft, inputs=inputs, logits=runner.run(inputs), labels=images.labels[rows], allow_pickle=False, **arrays
        )


def spread_over_classes(labels: np.ndarray, count: int) -> list[int]:
    """Rows of at most `count` images: the first of every class, then the second of every class, and so on."""
    seen: dict[int, int] = {}
    turns = []
    for row, label in enumerate(labels.tolist()):
        turns.append((seen.get(label, 0), label, row))
        seen[label] = seen.get(label, 0) + 1
    return [row for _, _, row in sorted(turns)[:count]]


def _small(picture: Image.Image) -> Image.Image:
    if max(picture.size) > LONGEST_PX:
        picture.thumbnail((LONGEST_PX, LONGEST_PX))
    return picture

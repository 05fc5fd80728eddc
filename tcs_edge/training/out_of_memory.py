"""Error for a step that does not fit into a GPU's memory: it names a batch size that does."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from tcs_edge.errors import MissingError
from tcs_edge.methods import Batch
from tcs_edge.utils.ranks import current


@contextmanager
def fitting_batch_named(gradients: Callable[[Batch], None], batch: Batch) -> Iterator[None]:
    """Turn a lack of GPU memory inside the block into an error with a batch size that fits.

    Halves of the batch are tried until one fits. Of several processes none is tried: the others wait in the step.

    Args:
        gradients: computes the gradients of a smaller batch, with everything that a step needs.

    Raises:
        MissingError: the GPU has too little memory.
    """
    try:
        yield
        return
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
    # Outside of the handler, whose traceback would keep the tensors of the step.
    place, images = current(), len(batch.labels)
    fits = largest_fitting(gradients, batch) if place.alone else 0
    advice = f"A batch of {fits} fits: pass --batch-size {fits}" if fits else "Pass a smaller --batch-size"
    raise MissingError(
        f"the GPU has too little memory for a batch of {images} images ({reason[:80]}). {advice}, or a smaller "
        "--img-size."
    )


def largest_fitting(gradients: Callable[[Batch], None], batch: Batch) -> int:
    """Return the largest of 1/2, 1/4, ... of the batch whose gradients fit; 0 if not even 2 images do."""
    size = len(batch.labels) // 2
    while size >= 2:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            gradients(first_images(batch, size))
            return size
        except torch.OutOfMemoryError:
            size //= 2
    return 0


def first_images(batch: Batch, count: int) -> Batch:
    """Return the first `count` images of a batch, as if they were not mixed."""
    rows = {key: values[:count] for key, values in batch.rows.items()}
    return replace(
        batch, images=batch.images[:count], labels=batch.labels[:count], index=batch.index[:count], mix=None, rows=rows
    )

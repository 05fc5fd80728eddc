"""Batches for training and evaluation.

Training batches depend only on (seed, epoch). The order is drawn from these two numbers. The view of
an image is drawn from them, its position, and the number of its earlier draws in the epoch. A run that
resumes at an epoch boundary, or uses another number of workers, receives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from tcs_edge.data.augment import Augment
from tcs_edge.data.cache import Images
from tcs_edge.data.images import UNLABELED, Split
from tcs_edge.data.parallel import ByteBudget
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.data.workers import WorkerLoader, Workers
from tcs_edge.errors import DataError, UsageError
from tcs_edge.utils.launcher import ALONE, Ranks

Sample = tuple[torch.Tensor, int, int]
Draw = tuple[int, int]  # an image's position, and its number of earlier draws in this epoch


class _Views(Dataset[Sample]):
    """Data set that maps a draw to (view float32 (3, S, S), label, position)."""

    def __init__(self, images: Images, view: Callable[[Image.Image, Draw], torch.Tensor], budget: ByteBudget) -> None:
        self.images, self.view, self.budget = images, view, budget

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> Sample:
        index, _ = draw
        with self.budget.held(self.images.decoded_bytes(index)):
            return self.view(self.images.image(index), draw), int(self.images.labels[index]), index


class _Loader(WorkerLoader[Sample]):
    """A loader that raises the same DataError message from a worker as from the main process."""

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        try:
            yield from super().__iter__()
        except DataError as error:  # the message of a worker's error is its whole traceback
            raise DataError(str(error).strip().splitlines()[-1].rpartition("DataError: ")[2]) from error


class _RandomView:
    """Random view for (seed, epoch, draw)."""

    def __init__(self, augment: Augment, seed: int, epoch: int) -> None:
        self.augment, self.seed, self.epoch = augment, seed, epoch

    def __call__(self, image: Image.Image, draw: Draw) -> torch.Tensor:
        index, again = draw
        # index + 1, since stream 0 draws the order of the epoch
        stream = [self.seed, self.epoch, index + 1, *([again] if again else [])]
        return self.augment(image, np.random.default_rng(stream))


class _PlainView:
    """The evaluation view."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    def __call__(self, image: Image.Image, _draw: Draw) -> torch.Tensor:
        return torch.from_numpy(self.preprocess(image))


def training_loader(
    images: Images,
    augment: Augment,
    batch_size: int,
    seed: int,
    epoch: int,
    workers: int = 0,
    labeled_fraction: float = 0.0,
    place: Ranks = ALONE,
    pinned: bool = False,
) -> DataLoader[Sample]:
    """Load one epoch in random order: (images float32 (B, 3, S, S), labels int64 (B,), index int64 (B,)).

    `index` is the position in `images`, for looking up values cached per image. A last batch of
    one image is dropped, since batch normalization cannot use it.

    Args:
        images: a split, or better the result of `keep_decoded`, which decodes once for all epochs.
        seed, epoch: whole numbers >= 0 that determine every random draw.
        workers: processes or threads that decode and augment; 0 uses the current thread.
        labeled_fraction: see `epoch_order`.
        place: of several processes, each loads its part of every batch of `batch_size` images. The parts are equal,
            so up to size - 1 images of the last batch are left out.
        pinned: return pinned memory, which a GPU copies while it computes.

    Raises:
        UsageError: a part has fewer than 2 images, or the processes do not divide the batch.
    """
    order = epoch_order(images.labels, labeled_fraction, np.random.default_rng([seed, epoch, 0]))
    view = _RandomView(augment, seed, epoch)
    threads = not augment.distortion.magnitude  # RandAugment draws from torch's global generator
    batches = _Batches(order, batch_size, place, training=True)
    return _loader(images, view, augment.preprocess, batches, workers, pinned, threads)


def epoch_order(labels: np.ndarray, labeled_fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the order of the images in one epoch: N positions, int64 (N,), for labels (N,).

    If at least `labeled_fraction` of the images are labeled, every image is drawn once. Otherwise the
    labeled images are drawn several times and some unlabeled images not at all. The draws are mixed
    evenly, so that about `labeled_fraction` of every batch is labeled.
    """
    labeled, others = np.flatnonzero(labels != UNLABELED), np.flatnonzero(labels == UNLABELED)
    wanted = round(labeled_fraction * len(labels))
    if len(labeled) >= wanted or not len(labeled):
        return rng.permutation(len(labels))
    rounds = [rng.permutation(labeled) for _ in range(-(-wanted // len(labeled)))]
    draws = [np.concatenate(rounds)[:wanted], rng.permutation(others)[: len(labels) - wanted]]
    places = np.concatenate([(np.arange(len(part)) + rng.random(len(part))) / len(part) for part in draws])
    return np.concatenate(draws)[places.argsort()]


def evaluation_loader(
    images: Images,
    preprocess: Preprocess,
    batch_size: int,
    workers: int = 0,
    place: Ranks = ALONE,
    pinned: bool = False,
) -> DataLoader[Sample]:
    """Load every image once, in order, with the deployed model's preprocessing; batches as in `training_loader`.

    Args:
        place: of several processes, each loads every size-th image.
        pinned: as `training_loader`.
    """
    batches = _Batches(np.arange(place.rank, len(images), place.size), batch_size, ALONE, training=False)
    return _loader(images, _PlainView(preprocess), preprocess, batches, workers, pinned)


class _Batches(Sampler[list[Draw]]):
    """Batches of draws: every position in `order`, int64 (n,), with the number of its earlier occurrences.

    Of several processes, each gets an equal part of every training batch. A last training batch without two images
    for each process is dropped, since batch normalization cannot use one.
    """

    def __init__(self, order: np.ndarray, batch_size: int, place: Ranks, training: bool) -> None:
        self.order, self.earlier = order, earlier_draws(order)
        self.batch_size, self.place = batch_size, place
        size, last = place.size, len(order) % batch_size
        if training and not place.alone and (batch_size % size or min(batch_size, len(order)) < 2 * size):
            raise UsageError(
                f"{size} processes cannot share batches of {min(batch_size, len(order))} images: each needs the same "
                f"number, at least 2. Pass a --batch-size that is a multiple of {size}."
            )
        short = training and len(order) > batch_size > 1 and 0 < last < 2 * size
        self.count = len(order) // batch_size + bool(last and not short)

    @property
    def largest(self) -> int:
        """Images in a full batch of this process."""
        return min(self.batch_size, max(1, len(self.order))) // self.place.size

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[Draw]]:
        for start in range(0, self.count * self.batch_size, self.batch_size):
            rows = slice(start, start + self.batch_size)
            index, earlier = self.order[rows], self.earlier[rows]
            kept = len(index) // self.place.size * self.place.size
            own = slice(self.place.rank, kept, self.place.size)
            yield list(zip(index[own].tolist(), earlier[own].tolist(), strict=True))


def earlier_draws(order: np.ndarray) -> np.ndarray:
    """Count the earlier occurrences of every position in `order`: int64 (n,) for int64 (n,)."""
    by_index = order.argsort(kind="stable")
    firsts = np.flatnonzero(np.diff(order[by_index], prepend=-1))
    places = np.arange(len(order))
    starts = np.repeat(firsts, np.diff(firsts, append=len(order)))
    counts = np.empty_like(places)
    counts[by_index] = places - starts
    return counts


def _loader(
    images: Images,
    view: Callable[[Image.Image, Draw], torch.Tensor],
    preprocess: Preprocess,
    batches: _Batches,
    asked: int,
    pinned: bool,
    threads: bool = True,
) -> DataLoader[Sample]:
    batch_bytes = batches.largest * preprocess.tensor_bytes
    workers = Workers.for_batches(len(batches), asked, batch_bytes, threads)
    data = _Views(images, view, workers.budget)
    return _Loader(data, workers, batch_bytes=batch_bytes, batch_sampler=batches, pin_memory=pinned)


def image_batches(
    split: Split, preprocess: Preprocess, batch_size: int, workers: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches of `split`: preprocessed images float32 (B, 3, S, S) and labels int (B,)."""
    for pixels, labels, _ in evaluation_loader(split, preprocess, batch_size, workers):
        yield pixels.numpy(), labels.numpy()

"""Batches for training and evaluation.

Training batches depend only on (seed, epoch). The order is drawn from these two numbers. The view of
an image is drawn from them, its position, and the number of its earlier draws in the epoch. A run that
resumes at an epoch boundary, or uses another number of workers, receives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from tcs_edge.data.augment import Augment
from tcs_edge.data.batch_views import BatchViews, collate_windows, longest_window
from tcs_edge.data.cache import Crops, DecodedImages, Images
from tcs_edge.data.images import UNLABELED, Split
from tcs_edge.data.normalize import CPU, Normalizer
from tcs_edge.data.parallel import ByteBudget
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.data.views import Draw, PlainView, RandomView, ReducedImages, Sample, Views, Windows
from tcs_edge.data.workers import WorkerLoader, Workers
from tcs_edge.errors import DataError, UsageError
from tcs_edge.utils.launcher import ALONE, Ranks


class _Loader(WorkerLoader[Sample]):
    """A loader that normalizes its batches, and raises a worker's DataError with the message of the main process.

    Args:
        data: with views, or with windows if there is `computed`.
        computed: computes the views of a batch of windows.
    """

    def __init__(
        self,
        data: Views | Windows,
        workers: Workers,
        normalized: Normalizer,
        computed: BatchViews | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(data, workers, collate_fn=collate_windows if computed else None, **settings)
        self.normalized, self.computed = normalized, computed

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        try:
            for views, labels, index in super().__iter__():
                yield [self.normalized(self.computed(*views) if self.computed else views), labels, index]
        except DataError as error:  # the message of a worker's error is its whole traceback
            raise DataError(str(error).strip().splitlines()[-1].rpartition("DataError: ")[2]) from error


class TrainingBatches:
    """Batches of every epoch, with workers that stay between the epochs; arguments as for `training_loader`.

    Args:
        on_device: compute the views on the device in batches, see `batch_views`; None does so on a CUDA device.
    """

    def __init__(
        self,
        images: Images,
        augment: Augment,
        batch_size: int,
        seed: int,
        workers: int = 0,
        labeled_fraction: float = 0.0,
        place: Ranks = ALONE,
        device: torch.device = CPU,
        persistent: bool = True,
        on_device: bool | None = None,
    ) -> None:
        def order(epoch: int) -> np.ndarray:
            return epoch_order(images.labels, labeled_fraction, np.random.default_rng([seed, epoch, 0]))

        self._batches = _Batches(order, len(images), batch_size, place, training=True)
        normalized = Normalizer(augment.preprocess, device, channels_last=True)
        threads = not augment.distortion.magnitude  # RandAugment draws from torch's global generator
        wanted = device.type == "cuda" if on_device is None else on_device
        data: Callable[[ByteBudget], Views | Windows]
        if wanted and isinstance(images, DecodedImages) and augment.kind != "none" and threads:
            data, computed = partial(Windows, images, augment, seed), BatchViews(augment, device)
            image_bytes = 3 * longest_window(int(images.copies.store.sizes.min(axis=1).max(initial=1)), augment) ** 2
        else:
            data, computed = partial(Views, images, RandomView(augment, seed)), None
            image_bytes = augment.preprocess.view_bytes
        self.loader = _loader(data, image_bytes, normalized, self._batches, workers, threads, persistent, computed)

    def __len__(self) -> int:
        return len(self._batches)

    def of_epoch(self, epoch: int) -> DataLoader[Sample]:
        """Return the loader of one epoch; an earlier epoch's is no longer valid."""
        self._batches.epoch = epoch
        return self.loader

    def close(self) -> None:
        """End the workers."""
        self.loader.close()


def training_loader(
    images: Images,
    augment: Augment,
    batch_size: int,
    seed: int,
    epoch: int,
    workers: int = 0,
    labeled_fraction: float = 0.0,
    place: Ranks = ALONE,
    device: torch.device = CPU,
) -> DataLoader[Sample]:
    """Load one epoch in random order: (images float32 (B, 3, S, S), labels int64 (B,), index int64 (B,)).

    `index` is the position in `images`, for looking up values cached per image. A last batch of
    one image is dropped, since batch normalization cannot use it. Workers hand over uint8 views.

    Args:
        images: a split, or better the result of `keep_decoded`, which decodes once for all epochs.
        seed, epoch: whole numbers >= 0 that determine every random draw.
        workers: processes or threads that decode and augment; 0 uses the current thread.
        labeled_fraction: see `epoch_order`.
        place: of several processes, each loads its part of every batch of `batch_size` images. The parts are equal,
            so up to size - 1 images of the last batch are left out.
        device: the images are normalized on it, in channels_last layout. A GPU copies them from pinned memory.

    Raises:
        UsageError: a part has fewer than 2 images, or the processes do not divide the batch.
    """
    batches = TrainingBatches(
        images, augment, batch_size, seed, workers, labeled_fraction, place, device, persistent=False
    )
    return batches.of_epoch(epoch)


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
    device: torch.device = CPU,
    exact: bool = True,
) -> DataLoader[Sample]:
    """Load every image once, in order, with the deployed model's preprocessing; batches as in `training_loader`.

    Args:
        place: of several processes, each loads every size-th image.
        device: the images are normalized on it.
        exact: decode every pixel, as a device does. Otherwise large JPEGs are reduced while they are decoded, see
            `decode.open_rgb`, and the split's working copies are filled on the way.
    """
    crops = _crops(images, preprocess) if exact else None
    if isinstance(images, Split) and not exact:
        if images.working:
            images.working.store.allocate()
        images = ReducedImages(images, preprocess.resized_side)
    order = np.arange(place.rank, len(images), place.size)
    batches = _Batches(lambda _epoch: order, len(order), batch_size, ALONE, training=False)
    if crops is not None and crops.store.complete:
        workers = 0
    data = partial(Views, images, PlainView(preprocess, crops))
    return _loader(data, preprocess.view_bytes, Normalizer(preprocess, device), batches, workers)


def _crops(images: Images, preprocess: Preprocess) -> Crops | None:
    """Return the kept evaluation views of a split, if they have this preprocessing."""
    crops = images.crops if isinstance(images, Split) else None
    if crops is None or crops.preprocess != preprocess:
        return None
    crops.store.allocate()
    return crops


class _Batches(Sampler[list[Draw]]):
    """Batches of draws: every position in the order of an epoch, with the number of its earlier occurrences.

    Of several processes, each gets an equal part of every training batch. A last training batch without two images
    for each process is dropped, since batch normalization cannot use one.

    Args:
        order: returns the positions of an epoch, int64 (n,), with the same n for all.
    """

    def __init__(
        self, order: Callable[[int], np.ndarray], images: int, batch_size: int, place: Ranks, training: bool
    ) -> None:
        self.order, self.images, self.epoch = order, images, 0
        self.batch_size, self.place = batch_size, place
        size, last = place.size, images % batch_size
        if training and not place.alone and (batch_size % size or min(batch_size, images) < 2 * size):
            raise UsageError(
                f"{size} processes cannot share batches of {min(batch_size, images)} images: each needs the same "
                f"number, at least 2. Pass a --batch-size that is a multiple of {size}."
            )
        short = training and images > batch_size > 1 and 0 < last < 2 * size
        self.count = images // batch_size + bool(last and not short)

    @property
    def largest(self) -> int:
        """Images in a full batch of this process."""
        return min(self.batch_size, max(1, self.images)) // self.place.size

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, order = self.epoch, self.order(self.epoch)
        repeated = earlier_draws(order)
        for start in range(0, self.count * self.batch_size, self.batch_size):
            rows = slice(start, start + self.batch_size)
            index, earlier = order[rows], repeated[rows]
            kept = len(index) // self.place.size * self.place.size
            own = slice(self.place.rank, kept, self.place.size)
            yield [(epoch, one, again) for one, again in zip(index[own].tolist(), earlier[own].tolist(), strict=True)]


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
    data: Callable[[ByteBudget], Views | Windows],
    image_bytes: int,
    normalized: Normalizer,
    batches: _Batches,
    asked: int,
    threads: bool = True,
    persistent: bool = False,
    computed: BatchViews | None = None,
) -> _Loader:
    """Return a loader of `batches`; of one image, a worker hands over at most `image_bytes`."""
    batch_bytes = batches.largest * image_bytes
    workers = Workers.for_batches(len(batches), asked, batch_bytes, threads)
    return _Loader(
        data(workers.budget), workers, normalized, computed, batch_bytes=batch_bytes, batch_sampler=batches,
        persistent=persistent, pin_memory=normalized.device.type == "cuda",
    )  # fmt: skip


def image_batches(
    split: Split, preprocess: Preprocess, batch_size: int, workers: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches of `split`: preprocessed images float32 (B, 3, S, S) and labels int (B,)."""
    for pixels, labels, _ in evaluation_loader(split, preprocess, batch_size, workers):
        yield pixels.numpy(), labels.numpy()

"""Batches for training and evaluation.

A training batch depends on (seed, epoch) alone: the order is drawn from them, each image's view
from them, the image's position, and how often it came before in the epoch. A run that resumes at an
epoch boundary, or that uses another number of workers, sees the same numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from tcs_edge.data.augment import Augment
from tcs_edge.data.cache import Images
from tcs_edge.data.images import UNLABELED, Split
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.data.workers import worker_settings
from tcs_edge.errors import DataError

Sample = tuple[torch.Tensor, int, int]
Draw = tuple[int, int]  # an image's position, and how often it was drawn before in this epoch


class _Views(Dataset[Sample]):
    """A draw -> (view float32 (3, S, S), label, position)."""

    def __init__(self, images: Images, view: Callable[[Image.Image, Draw], torch.Tensor]) -> None:
        self.images, self.view = images, view

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> Sample:
        index, _ = draw
        return self.view(self.images.image(index), draw), int(self.images.labels[index]), index


class _Loader(DataLoader[Sample]):
    """A loader whose data errors read the same from a worker as from the main process."""

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        try:
            yield from super().__iter__()
        except DataError as error:  # a worker's comes with its whole traceback as the message
            raise DataError(str(error).strip().splitlines()[-1].rpartition("DataError: ")[2]) from error


class _RandomView:
    """The view of (seed, epoch, draw); a class and not a closure, so that workers can be spawned."""

    def __init__(self, augment: Augment, seed: int, epoch: int) -> None:
        self.augment, self.seed, self.epoch = augment, seed, epoch

    def __call__(self, image: Image.Image, draw: Draw) -> torch.Tensor:
        index, again = draw
        # index + 1: stream 0 orders the epoch
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
) -> DataLoader[Sample]:
    """One epoch in random order: (images float32 (B, 3, S, S), labels int64 (B,), index int64 (B,)).

    `index` is the position in `images`, for looking up what is cached per image. A last batch of
    a single image is left out, since batch normalization cannot use it.

    Args:
        images: a split, or better what `keep_decoded` made of it, once for all epochs.
        seed, epoch: whole numbers >= 0 that every random choice derives from.
        workers: processes that decode and augment; 0 does it in this one.
        labeled_fraction: see `epoch_order`.
    """
    order = epoch_order(images.labels, labeled_fraction, np.random.default_rng([seed, epoch, 0]))
    lonely = len(order) > batch_size > 1 and len(order) % batch_size == 1
    views = _Views(images, _RandomView(augment, seed, epoch))
    return _loader(views, order, batch_size, workers, drop_last=lonely)


def epoch_order(labels: np.ndarray, labeled_fraction: float, rng: np.random.Generator) -> list[int]:
    """Which image is drawn when in one epoch: as many draws as there are images, labels (N,).

    Where fewer than `labeled_fraction` of the images have a label, these are drawn more than once and
    some of the others not at all, evenly mixed, so that this share of every batch has labels;
    otherwise every image is drawn once.
    """
    labeled, others = np.flatnonzero(labels != UNLABELED), np.flatnonzero(labels == UNLABELED)
    wanted = round(labeled_fraction * len(labels))
    if len(labeled) >= wanted or not len(labeled):
        return [int(index) for index in rng.permutation(len(labels))]
    rounds = [rng.permutation(labeled) for _ in range(-(-wanted // len(labeled)))]
    draws = [np.concatenate(rounds)[:wanted], rng.permutation(others)[: len(labels) - wanted]]
    places = np.concatenate([(np.arange(len(part)) + rng.random(len(part))) / len(part) for part in draws])
    return [int(index) for index in np.concatenate(draws)[places.argsort()]]


def evaluation_loader(images: Images, preprocess: Preprocess, batch_size: int, workers: int = 0) -> DataLoader[Sample]:
    """Every image once, in order, as the deployed model sees it; batches as in `training_loader`."""
    order = range(len(images))
    return _loader(_Views(images, _PlainView(preprocess)), order, batch_size, workers, drop_last=False)


def _draws(order: Iterable[int]) -> list[Draw]:
    """Every position in `order` with the number of times that it came before."""
    seen: Counter[int] = Counter()
    found = []
    for index in order:
        found.append((index, seen[index]))
        seen[index] += 1
    return found


def _loader(views: _Views, order: Iterable[int], batch_size: int, workers: int, drop_last: bool) -> DataLoader[Sample]:
    return _Loader(
        views,
        batch_size=batch_size,
        sampler=_draws(order),
        drop_last=drop_last,
        generator=torch.Generator(),  # its own, so that iterating leaves torch's global stream alone
        **worker_settings(workers),
    )


def image_batches(
    split: Split, preprocess: Preprocess, batch_size: int, workers: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images of `split` as a model sees them, float32 (B, 3, S, S), with their labels int (B,)."""
    for pixels, labels, _ in evaluation_loader(split, preprocess, batch_size, workers):
        yield pixels.numpy(), labels.numpy()

"""Batches of preprocessed images for a teacher's pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from tcs_edge.data.images import Split
from tcs_edge.data.parallel import ByteBudget
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.data.workers import WorkerLoader, Workers
from tcs_edge.errors import TcsEdgeError
from tcs_edge.utils.threads import usable_cores

Rows = range | np.ndarray  # positions of the images of one batch
_FEW_IMAGES = 512  # for fewer images, starting processes takes longer than decoding
_MAX_AUTO_WORKERS = 8


class _Decoded(Dataset[Any]):
    """Data set that maps a batch number to views uint8 (B, S, S, 3), or to an error as a value.

    A raised error would reach the main process with the worker's traceback in its message.
    """

    def __init__(self, split: Split, preprocess: Preprocess, plan: Sequence[Rows], budget: ByteBudget) -> None:
        self.split, self.preprocess, self.plan, self.budget = split, preprocess, plan, budget

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> np.ndarray | TcsEdgeError:
        try:
            return np.stack([self._view(int(row)) for row in self.plan[index]])
        except TcsEdgeError as error:
            return error

    def _view(self, row: int) -> np.ndarray:
        split, side = self.split, self.preprocess.resized_side
        with self.budget.held(split.decoded_bytes(row, side)):
            image = split.image(row, side)
            if split.working:
                split.working.offer(row, image, side)
            return np.asarray(self.preprocess.crop(image))


def batch_loader(
    split: Split, preprocess: Preprocess, plan: Sequence[Rows], asked: int | None
) -> WorkerLoader[np.ndarray | TcsEdgeError]:
    """Load views, uint8 (B, S, S, 3), for the rows of each batch in `plan`, or an error as a value.

    Large JPEGs are decoded at a reduced size, see `decode.open_rgb`. A split's working copies are filled on the way.

    Args:
        asked: processes or threads that decode; 0 decodes in this thread, None chooses a number.
    """
    # Arrays are sent through a pipe, since 64 MB of /dev/shm in a container cannot hold two batches of tensors.
    workers = Workers.for_batches(len(plan), _auto_workers(split, sum(map(len, plan))) if asked is None else asked)
    data = _Decoded(split, preprocess, plan, workers.budget)
    if split.working:
        split.working.store.allocate()
    batch_bytes = max(map(len, plan), default=0) * preprocess.view_bytes
    return WorkerLoader(data, workers, batch_bytes, batch_size=None, sampler=range(len(plan)), collate_fn=_unchanged)


def _unchanged(batch: np.ndarray | TcsEdgeError) -> np.ndarray | TcsEdgeError:
    return batch


def _auto_workers(split: Split, images: int) -> int:
    if isinstance(split.sources, np.ndarray) or images < _FEW_IMAGES:
        return 0
    return min(_MAX_AUTO_WORKERS, max(1, usable_cores() - 1))

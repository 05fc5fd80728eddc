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
    """Data set that maps a batch number to float32 (B, 3, S, S), or to an error as a value.

    A raised error would reach the main process with the worker's traceback in its message.
    """

    def __init__(self, split: Split, preprocess: Preprocess, plan: Sequence[Rows], budget: ByteBudget) -> None:
        self.split, self.preprocess, self.plan, self.budget = split, preprocess, plan, budget

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> np.ndarray | TcsEdgeError:
        try:
            return np.stack([self._input(int(row)) for row in self.plan[index]])
        except TcsEdgeError as error:
            return error

    def _input(self, row: int) -> np.ndarray:
        with self.budget.held(self.split.decoded_bytes(row)):
            return self.preprocess(self.split.image(row))


def batch_loader(
    split: Split, preprocess: Preprocess, plan: Sequence[Rows], asked: int | None
) -> WorkerLoader[np.ndarray | TcsEdgeError]:
    """Load float32 (B, 3, S, S) for the rows of each batch in `plan`, or an error as a value.

    Args:
        asked: processes or threads that decode; 0 decodes in this thread, None chooses a number.
    """
    # Arrays are sent through a pipe, since 64 MB of /dev/shm in a container cannot hold two batches of tensors.
    workers = Workers.for_batches(len(plan), _auto_workers(split, sum(map(len, plan))) if asked is None else asked)
    data = _Decoded(split, preprocess, plan, workers.budget)
    batch_bytes = max(map(len, plan), default=0) * preprocess.tensor_bytes
    return WorkerLoader(data, workers, batch_bytes, batch_size=None, sampler=range(len(plan)), collate_fn=_unchanged)


def _unchanged(batch: np.ndarray | TcsEdgeError) -> np.ndarray | TcsEdgeError:
    return batch


def _auto_workers(split: Split, images: int) -> int:
    if isinstance(split.sources, np.ndarray) or images < _FEW_IMAGES:
        return 0
    return min(_MAX_AUTO_WORKERS, max(1, usable_cores() - 1))

"""Tensors with one row per training image, which follow a module to its device and belong to nothing else of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn


class RowsModule(nn.Module):
    """Module with tensors that are neither saved in checkpoints nor broadcast to other processes.

    Buffers would be: DistributedDataParallel sends every buffer to all processes before each forward pass, which is
    hundreds of megabytes for the targets of a large set. Each process has its own copy already.
    """

    def __init__(self) -> None:
        super().__init__()
        self._row_names: list[str] = []

    def keep_rows(self, name: str, rows: Tensor | None) -> None:
        """Set the attribute `name` to `rows`, which move with the module from now on."""
        self._row_names.append(name)
        setattr(self, name, rows)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Self:
        super()._apply(fn, *args, **kwargs)
        for name in self._row_names:
            rows = getattr(self, name)
            setattr(self, name, None if rows is None else fn(rows))
        return self

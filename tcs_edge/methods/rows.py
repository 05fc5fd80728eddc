"""Tables with one row per training image: they stay on the host, and a batch carries its own rows to the device.

So no value of the size of the training set is in the model, on the device, in a checkpoint, or sent between processes.
A table may be mapped from a file (`utils.row_array`).
"""

from __future__ import annotations

from itertools import count

import torch
from torch import Tensor, nn

from tcs_edge.methods.batch import Batch

_numbers = count()


class RowsModule(nn.Module):
    """Module with tables of the training images, which are neither parameters nor buffers and move nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self._row_keys: dict[str, str] = {}

    def keep_rows(self, name: str, table: Tensor | None) -> None:
        """Set the attribute `name` to a table (N, ...) on the CPU; None is an absent table."""
        self._row_keys[name] = f"{name} {next(_numbers)}"
        setattr(self, name, table)

    def rows_of(self, name: str, batch: Batch) -> Tensor:
        """Return the rows (B, ...) of the batch's images from the table `name`, on the device of the images.

        They are in the batch if `gathered` put them there; otherwise they are gathered now.
        """
        found = batch.rows.get(self._row_keys[name])
        return taken(getattr(self, name), batch.index.cpu(), batch.images.device) if found is None else found

    def gathered(self, index: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Gather the rows of every table of this module and its parts, as `Batch.rows`.

        Args:
            index: (B,) int64 on the CPU.
        """
        return {
            key: taken(table, index, device)
            for part in self.modules()
            if isinstance(part, RowsModule)
            for name, key in part._row_keys.items()
            if (table := getattr(part, name)) is not None
        }


def taken(table: Tensor, index: Tensor, device: torch.device) -> Tensor:
    """Return the rows `index` of a table on the CPU, on `device`; a GPU copies them while it computes."""
    return to_device(table.index_select(0, index), device)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to `device`. A GPU copies it from pinned memory, without making the host wait."""
    if device.type == "cuda" and values.device.type == "cpu":
        pinned = values if values.is_pinned() else values.pin_memory()
        return pinned.to(device, non_blocking=True)
    return values.to(device)

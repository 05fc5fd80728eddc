"""Places of images, in little memory: files below one folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tcs_edge.data.compact import Compact


class Sources(Compact[Path]):
    """Image sources with the key of their check in the intake store."""

    def place(self, index: int) -> tuple[str, str]:
        """Return the absolute folder and the name of source `index`."""
        raise NotImplementedError

    def take(self, rows: np.ndarray) -> Sources:
        """Return the sources at `rows`, integers (n,); they share the data of these sources."""
        found = super().take(rows)
        assert isinstance(found, Sources)
        return found


class Files(Sources):
    """Files below a folder, by their names relative to it; a set of images shares these names."""

    def __init__(self, root: Path, names: Compact[str]) -> None:
        self.root, self.names, self._count = root, names, len(names)
        self._absolute = os.path.abspath(root)  # noqa: PTH100 - resolve() would follow links

    def place(self, index: int) -> tuple[str, str]:
        """Return the absolute folder and the file name of file `index`."""
        return os.path.split(os.path.join(self._absolute, self.names[index]))  # noqa: PTH118 - fast for many files

    def _item(self, row: int) -> Path:
        return self.root / self.names[row]

    def _view(self, rows: np.ndarray) -> Files:
        return Files(self.root, self.names.take(rows))

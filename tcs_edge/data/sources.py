"""Places of images, in little memory: files below one folder, or members of archives."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tcs_edge.data.compact import Compact
from tcs_edge.data.decode import Readable
from tcs_edge.data.members import Member

MEMBER_FACTS = np.dtype(
    [("archive", "u2"), ("start", "i8"), ("length", "i8"), ("size", "i8"), ("method", "i1"), ("crc", "u4")]
)


class Sources(Compact[Path | Readable]):
    """Image sources with the key of their check in the intake store."""

    @abstractmethod
    def place(self, index: int) -> tuple[str, str]:
        """Return the absolute folder or archive, and the name in it, of source `index`."""

    @abstractmethod
    def file(self, index: int) -> str:
        """Return the path of the file whose change changes source `index`."""

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
        return os.path.split(self.file(index))

    def file(self, index: int) -> str:
        """Return the absolute path of file `index`."""
        return os.path.join(self._absolute, self.names[index])  # noqa: PTH118 - fast for many files

    def _item(self, row: int) -> Path:
        return self.root / self.names[row]

    def _view(self, rows: np.ndarray) -> Files:
        return Files(self.root, self.names.take(rows))


class Members(Sources):
    """Images inside of archives.

    Attributes:
        archives: the archives.
        names: names of the members (N).
        facts: `MEMBER_FACTS` (N,), position in `archives`, and the numbers of each `Member`.
    """

    def __init__(
        self, archives: Sequence[Path], names: Compact[str], facts: np.ndarray, rows: np.ndarray | None = None
    ) -> None:
        self.archives, self.names, self.facts = archives, names, facts
        self._rows, self._count = rows, len(facts)
        self._absolute = [os.path.abspath(path) for path in archives]  # noqa: PTH100 - as for Files

    def place(self, index: int) -> tuple[str, str]:
        """Return the absolute path of the archive and the name of member `index`."""
        return self.file(index), self.names[self._row(index)]

    def file(self, index: int) -> str:
        """Return the absolute path of the archive of member `index`."""
        return self._absolute[int(self.facts[self._row(index)]["archive"])]

    def _row(self, index: int) -> int:
        return index if self._rows is None else int(self._rows[index])

    def _item(self, row: int) -> Member:
        archive, *numbers = self.facts[row].tolist()
        return Member(self.archives[archive], self.names[row], *numbers)

    def _view(self, rows: np.ndarray) -> Members:
        return Members(self.archives, self.names, self.facts, rows)

"""Sequences of many texts in little memory: the bytes end to end, and one offset for each text.

A Python `str` takes 50 bytes and more, a `Path` several hundred. With a million images, most memory would hold names.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy as np

Item = TypeVar("Item", covariant=True)
_PACKED = 65_536  # offsets that are held as Python numbers at a time
_MOST_SORTED_BYTES = 2**28


class Compact(Sequence[Item], Generic[Item]):
    """A read-only sequence whose items are made when they are read; a slice is a tuple.

    `_rows` are the positions of its items in data that it shares with other sequences; None for all of the data.
    """

    _rows: np.ndarray | None = None
    _count: int

    @abstractmethod
    def _item(self, row: int) -> Item: ...

    @abstractmethod
    def _view(self, rows: np.ndarray) -> Compact[Item]: ...

    def __len__(self) -> int:
        return self._count if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...

    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        if not 0 <= index < len(self):
            index = range(len(self))[index]  # raises IndexError; counts negative positions from the end
        return self._item(index if self._rows is None else int(self._rows[index]))

    def __iter__(self) -> Iterator[Item]:
        rows: Iterable[int] = range(self._count) if self._rows is None else self._rows
        return (self._item(int(row)) for row in rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple | Compact):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: np.ndarray) -> Compact[Item]:
        """Return the items at `rows`, integers (n,); they share the data of this sequence."""
        return self._view(rows if self._rows is None else self._rows[rows])


class Texts(Compact[str]):
    """Texts as one blob of UTF-8 with the ends of all texts, int64 (N,)."""

    def __init__(self, blob: bytes, ends: np.ndarray, rows: np.ndarray | None = None) -> None:
        self._blob, self._ends, self._rows, self._count = blob, ends, rows, len(ends)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Pack `texts`; they may hold bytes of file names that are not UTF-8."""
        blob, ends, packed = bytearray(), list[int](), [np.empty(0, np.int64)]
        for text in texts:
            blob += _encoded(text)
            ends.append(len(blob))
            if len(ends) == _PACKED:
                packed.append(np.array(ends, np.int64))
                ends = []
        return cls(bytes(blob), np.concatenate([*packed, np.array(ends, np.int64)]))

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """Return the texts of all parts in order; the parts are no views."""
        starts = np.cumsum([0, *(len(part._blob) for part in parts)])
        ends = [part._ends + start for part, start in zip(parts, starts, strict=False)]
        return cls(b"".join(part._blob for part in parts), np.concatenate([*ends, np.empty(0, np.int64)]))

    def _item(self, row: int) -> str:
        start = int(self._ends[row - 1]) if row else 0
        return self._blob[start : int(self._ends[row])].decode("utf-8", "surrogatepass")

    def _view(self, rows: np.ndarray) -> Texts:
        return Texts(self._blob, self._ends, rows)


class Chain(Compact[Item]):
    """Several sequences, one after the other."""

    def __init__(self, parts: Sequence[Sequence[Item]], rows: np.ndarray | None = None) -> None:
        self._parts, self._rows = parts, rows
        self._ends = np.cumsum([len(part) for part in parts])
        self._count = int(self._ends[-1])

    def _item(self, row: int) -> Item:
        part = int(np.searchsorted(self._ends, row, side="right"))
        return self._parts[part][row - (int(self._ends[part - 1]) if part else 0)]

    def _view(self, rows: np.ndarray) -> Chain[Item]:
        return Chain(self._parts, rows)


def text_order(texts: Sequence[str]) -> np.ndarray:
    """Return the positions, int64 (N,), of `texts` without NUL in sorted order; equal texts keep their order."""
    width = max((len(_encoded(text)) for text in texts), default=1)
    if width * len(texts) > _MOST_SORTED_BYTES:
        return np.array(sorted(range(len(texts)), key=texts.__getitem__), np.int64)
    table = np.empty(len(texts), f"S{max(1, width)}")  # the bytes of UTF-8 sort as the characters do
    for row, text in enumerate(texts):
        table[row] = _encoded(text)
    return table.argsort(kind="stable")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")

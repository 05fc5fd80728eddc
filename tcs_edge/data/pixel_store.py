"""Pixels of a split's images in one array that forked workers fill and share.

A small array is anonymous shared memory. A large one is a file without a name, of which memory holds the parts in use.
"""

from __future__ import annotations

import logging
import mmap
from pathlib import Path

import numpy as np

from tcs_edge.errors import MissingError
from tcs_edge.utils.ranks import current, shared_json, wait
from tcs_edge.utils.row_array import IN_MEMORY_BYTES, new_file, row_array

logger = logging.getLogger(__name__)

NOT_KEPT = "decoded images are not kept, so every epoch decodes them again: {}"
_MISSING, _STORED, _TURNED = 0, 1, 2


class PixelStore:
    """RGB pixels of N images of known sizes, as far as `most_bytes` reach.

    The first images have a place, the others do not. Two workers may write the same image at once, since both write
    the same bytes. Nothing is kept before `allocate`.

    Args:
        sizes: integers (N, 2), width and height of every image in pixels; an image may also be stored turned by 90
            degrees.
        most_bytes: largest size of the array.
        folder: folder of a large array; None takes the cache folder.
    """

    def __init__(self, sizes: np.ndarray, most_bytes: int, folder: Path | None) -> None:
        self.sizes, self.folder = sizes, folder
        self._ends = np.cumsum(3 * sizes.prod(axis=1, dtype=np.int64))
        self.places = int(np.searchsorted(self._ends, most_bytes, side="right"))
        self._pixels: np.ndarray | None = None
        self._state = np.zeros(0, np.uint8)

    @property
    def bytes(self) -> int:
        """Size of the array."""
        return int(self._ends[self.places - 1]) if self.places else 0

    @property
    def complete(self) -> bool:
        """True if every image is stored."""
        return len(self._state) == len(self.sizes) and bool((self._state != _MISSING).all())

    def allocate(self) -> None:
        """Reserve the memory, or the disk space; call it before workers are forked. A full disk keeps nothing."""
        if self._pixels is not None or not self.places:
            return
        try:
            self._pixels = _shared(self.bytes, self.folder)
            self._state = _shared(self.places, self.folder)
        except MissingError as error:
            self.places, self._pixels = 0, None
            logger.warning(NOT_KEPT.format(error))

    def allocate_together(self) -> None:
        """Allocate one array that all processes of a run on one machine fill; every one of them calls it at once.

        Alone, or on several machines, each process has an array of its own.
        """
        place = current()
        if place.alone or place.local_size != place.size:
            self.allocate()
            return
        size = self.bytes + self.places
        path = shared_json(None if place.rank or not size else _new_file(size, self.folder))
        if path is not None:
            both = np.memmap(path, np.uint8, "r+", shape=(size,))
            self._pixels, self._state = both[: self.bytes], both[self.bytes :]
        else:
            self.places = 0
        wait()
        if path is not None and not place.rank:
            Path(path).unlink()

    def get(self, row: int) -> np.ndarray | None:
        """Return the pixels of image `row`, uint8 (height, width, 3), or None if they are not stored."""
        state = self._state[row] if row < len(self._state) else _MISSING
        if state == _MISSING or self._pixels is None:
            return None
        width, height = self.sizes[row].tolist()
        shape = (width, height, 3) if state == _TURNED else (height, width, 3)
        return self._pixels[self._ends[row] - 3 * width * height : self._ends[row]].reshape(shape)

    def put(self, row: int, pixels: np.ndarray) -> None:
        """Store the pixels of image `row`, uint8 (height, width, 3), if it has a place."""
        if self._pixels is None or row >= self.places:
            return
        width, height = self.sizes[row].tolist()
        if pixels.shape not in ((height, width, 3), (width, height, 3)):
            raise ValueError(f"image {row} has {pixels.shape}, not {(height, width, 3)} or turned")
        self._pixels[self._ends[row] - 3 * width * height : self._ends[row]] = pixels.reshape(-1)
        self._state[row] = _STORED if pixels.shape[0] == height else _TURNED


def _shared(size: int, folder: Path | None) -> np.ndarray:
    """Return `size` bytes of zeros that forked processes share."""
    if size <= IN_MEMORY_BYTES:
        return np.frombuffer(mmap.mmap(-1, size), np.uint8)
    return row_array((size,), np.uint8, folder)


def _new_file(size: int, folder: Path | None) -> str | None:
    """Return the path of a new file of `size` bytes; None without room for it."""
    try:
        return str(new_file(size, folder))
    except MissingError as error:
        logger.warning(NOT_KEPT.format(error))
        return None

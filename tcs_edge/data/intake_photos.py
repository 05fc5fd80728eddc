"""Large photos as the check at intake decoded them, so that the first pass over them does not decode them again.

Only photos that the check decodes at a reduced size are kept: decoding the others takes less time than a view of them.
Every user of an image gets the pixels that it would decode itself, so a run with less room gives the same result.
"""

from __future__ import annotations

import logging
import tempfile
import weakref
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np
from PIL import Image

from tcs_edge.data.decode import INTAKE_SIDE, reduction
from tcs_edge.errors import MissingError
from tcs_edge.utils.cache_folder import default_cache_dir
from tcs_edge.utils.files import make_folder

logger = logging.getLogger(__name__)


class IntakePhotos:
    """Pixels of photos by the sha256 of their files, one after the other in a file without a name.

    Threads may put photos. Forked processes may get them.

    Args:
        most_bytes: largest size of the file.
        folder: its folder; None takes the cache folder.
    """

    def __init__(self, most_bytes: int, folder: Path | None) -> None:
        self.most_bytes, self.folder = most_bytes, folder
        self._places: dict[bytes, tuple[int, tuple[int, int, int]]] = {}  # start, shape
        self._end = 0
        self._file: IO[bytes] | None = None
        self._lock = Lock()

    def put(self, content: bytes, photo: Image.Image) -> None:
        """Keep a photo, upright RGB, if there is room."""
        pixels = np.asarray(photo)
        with self._lock:
            if content in self._places or self._end + pixels.nbytes > self.most_bytes:
                return
            try:
                if self._file is None:
                    self._file = _temporary_file(self.folder)
                    weakref.finalize(self, self._file.close)
                self._file.seek(self._end)
                self._file.write(pixels.tobytes())
                self._file.flush()
            except (OSError, MissingError) as error:
                self.most_bytes = 0
                logger.debug(f"photos of the check: no more are kept ({error})")
                return
            self._places[content] = (self._end, pixels.shape)
            self._end += pixels.nbytes

    def limit(self, most_bytes: int) -> None:
        """Drop photos until the rest takes at most `most_bytes`, and keep no more."""
        self.most_bytes = min(self.most_bytes, most_bytes)
        for content, (start, shape) in reversed([*self._places.items()]):
            if start + int(np.prod(shape)) <= self.most_bytes:
                break
            self._end = start
            del self._places[content]
        if self._file is not None:
            self._file.truncate(self._end)

    def has(self, content: bytes, size: tuple[int, int], view_side: int) -> bool:
        """Return True if the photo of `size` is kept as it is decoded for views of `view_side`."""
        return content in self._places and reduction(size, view_side) == reduction(size, INTAKE_SIDE)

    def get(self, content: bytes) -> Image.Image:
        """Return a kept photo, upright RGB."""
        start, shape = self._places[content]
        assert self._file is not None
        return Image.fromarray(np.memmap(self._file, np.uint8, "r", start, shape))


def _temporary_file(folder: Path | None) -> IO[bytes]:
    folder = default_cache_dir() if folder is None else folder
    make_folder(folder)
    return tempfile.TemporaryFile(dir=folder, prefix=".rows-")

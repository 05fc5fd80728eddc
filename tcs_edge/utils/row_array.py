"""Arrays with one row per image: small ones in memory, large ones in a file, so that memory holds the rows in use only.

A file is mapped and has no name (or loses it at once), so it ends with the array, also if the process is killed.
Forked workers share it.
"""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from tcs_edge.utils.cache_folder import default_cache_dir
from tcs_edge.utils.files import make_folder, write_error

IN_MEMORY_BYTES = 64_000_000  # smaller arrays stay in memory
_ZEROS = bytes(2**20)
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


def row_array(shape: tuple[int, ...], dtype: Any, folder: Path | None = None) -> np.ndarray:
    """Return a writable array of zeros; above `IN_MEMORY_BYTES` it is mapped from a file without a name.

    Args:
        folder: folder of the file, on a disk with room for the array; None takes the cache folder.

    Raises:
        MissingError: the disk is full or the folder cannot be written.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY_BYTES:
        return np.zeros(shape, dtype)
    folder = default_cache_dir() if folder is None else folder
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".rows-") as file:
            _reserve(file, size)
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise write_error(error, folder / "rows") from error


def new_file(size: int, folder: Path | None = None) -> Path:
    """Return a new file of `size` zeros, which the caller opens where it is needed, and removes.

    Raises:
        MissingError: as `row_array`.
    """
    folder = default_cache_dir() if folder is None else folder
    make_folder(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".rows-", delete=False) as file:
            path = Path(file.name)
            try:
                _reserve(file, size)
            except OSError:
                path.unlink()
                raise
            return path
    except OSError as error:
        raise write_error(error, folder / "rows") from error


def stored_rows(parts: Iterable[np.ndarray], rows: int, dtype: Any, folder: Path | None = None) -> np.ndarray:
    """Return `parts`, arrays (n, ...) with `rows` rows in all, one after the other as a `row_array` of `dtype`.

    Raises:
        MissingError: as `row_array`. ValueError: another number of rows.
    """
    stored: np.ndarray | None = None
    filled = 0
    for part in parts:
        if stored is None:
            stored = row_array((rows, *part.shape[1:]), dtype, folder)
        stored[filled : filled + len(part)] = part
        filled += len(part)
    if stored is None or filled != rows:
        raise ValueError(f"{filled} rows instead of {rows}")
    return stored


def _reserve(file: IO[bytes], size: int) -> None:
    """Allocate the file on the disk. In a file with holes, a full disk would end the process with SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    for _ in range(0, size, len(_ZEROS)):
        file.write(_ZEROS)
    file.truncate(size)
    file.flush()

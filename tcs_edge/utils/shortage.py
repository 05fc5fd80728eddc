"""Shortage of memory, disk space or file handles, in the words of the system or of a library."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from tcs_edge.errors import MissingError

MEMORY = "not enough memory ({}). Close other programs, or pass a smaller --batch-size or fewer --workers."
HANDLES = "too many open files ({}). Raise the limit: ulimit -n 1024."
DISK = "the disk is full ({}). Free some space, also in the folder for temporary files (TMPDIR)."
FILE_SIZE = "a file reached the limit of file sizes ({}). Raise the limit: ulimit -f unlimited."
_BY_NUMBER = {
    errno.ENOMEM: MEMORY, errno.EMFILE: HANDLES, errno.ENFILE: HANDLES, errno.ENOSPC: DISK, errno.EFBIG: FILE_SIZE,
}  # fmt: skip
if hasattr(errno, "EDQUOT"):
    _BY_NUMBER[errno.EDQUOT] = DISK
# Native libraries raise other types: torch and its oneDNN RuntimeError, ONNX Runtime its own, dlopen ImportError.
_BY_TEXT = (
    (re.compile(r"can't allocate memory|cannot allocate memory|bad_?alloc|out of memory|failed to allocate memory"
                r"|can't start new thread|resource temporarily unavailable|failed to map segment"
                r"|std::bad_array_new_length|could not create a (?:primitive|memory)", re.IGNORECASE), MEMORY),
    (re.compile(r"too many open files", re.IGNORECASE), HANDLES),
    (re.compile(r"no space left on device", re.IGNORECASE), DISK),
)  # fmt: skip


def shortage(error: BaseException) -> str | None:
    """Return a message with advice if `error`, or an error behind it, comes from a shortage; else None."""
    for one in _chain(error):
        detail = " ".join(str(one).split())[:200]
        if isinstance(one, MemoryError):
            return MEMORY.format(detail or "an allocation failed")
        if isinstance(one, OSError) and one.errno in _BY_NUMBER:
            return _BY_NUMBER[one.errno].format(detail)
        if is_panic(one) and "is null" in detail:  # Python had no memory for an object
            return MEMORY.format(detail)
        if isinstance(one, RuntimeError | ImportError | OSError) or type(one).__module__.startswith("onnxruntime"):
            for pattern, message in _BY_TEXT:
                if pattern.search(detail):
                    return message.format(detail)
    return None


def is_panic(error: BaseException) -> bool:
    """Return True for a panic in a library written in Rust, such as safetensors; it is no `Exception`."""
    return type(error).__module__ == "pyo3_runtime"


def raise_shortage(error: BaseException) -> None:
    """Raise the shortage behind `error`, so that it does not count as a defect of the file that was being read.

    Raises:
        MissingError: `error` comes from a shortage.
    """
    if message := shortage(error):
        raise MissingError(message) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__

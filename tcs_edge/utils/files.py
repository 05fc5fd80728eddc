"""Atomic writing, hashing and listing of files.

A draft is written beside the target, flushed to the disk and renamed over the target. So neither a
reader nor a killed run leaves or finds half a file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tcs_edge.errors import MissingError

# A file size limit, a failing disk, a path that cannot be a folder: problems of the place, not bugs of tcs-edge.
_UNWRITABLE = frozenset(
    {errno.EFBIG, errno.EIO, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
)


@dataclass(frozen=True)
class FileRecord:
    """Record of one file: path relative to a root folder, size in bytes, sha256 (hex)."""

    path: str
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a draft path beside `target`; rename it over `target` when the block succeeds.

    The draft has the target's suffix, because exporters depend on it. If the block raises (Ctrl-C
    included), the target is unchanged and the draft is deleted.

    Raises:
        MissingError: the disk is full or the folder cannot be written.
    """
    target = Path(target)
    draft = target.with_name(f".{target.stem}.draft-{os.getpid()}{target.suffix}")
    try:
        make_folder(target.parent)
        yield draft
        with draft.open("rb+") as handle:
            os.fsync(handle.fileno())
        draft.replace(target)
    except OSError as error:
        raise _as_missing(error, target) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _as_missing(error: OSError, target: Path, unwritable: Collection[int] = _UNWRITABLE) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MissingError(f"the disk is full: {target} was not written. Free some space.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MissingError(f"no permission to write {target}. Choose another folder.")
    if error.errno in unwritable:
        return MissingError(f"{target} cannot be written: {error.strerror}. Choose another folder.")
    return error


def make_folder(folder: Path, new: bool = False) -> None:
    """Create `folder` and its missing parents, unless it exists.

    Args:
        new: `folder` itself must not exist.

    Raises:
        MissingError: the disk is full, or a folder cannot be created there.
        FileExistsError: with `new`, something of this name exists.
    """
    try:
        folder.mkdir(parents=True, exist_ok=not new)
    except OSError as error:
        if new and isinstance(error, FileExistsError) and os.path.lexists(folder):
            raise
        # ENOENT for a file may be a bug of tcs-edge; for a folder it is a problem of the place.
        raise _as_missing(error, folder, {errno.ENOENT, *_UNWRITABLE}) from error


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target` atomically."""
    with atomic_path(target) as draft:
        draft.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8 to `target` atomically."""
    write_bytes(target, text.encode("utf-8"))


def write_json(target: Path, document: dict[str, Any]) -> None:
    """Write a JSON document atomically; it must have a `schema_version` and no NaN or Inf."""
    if "schema_version" not in document:
        raise ValueError(f"{target.name}: a JSON document needs a schema_version")
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(target, text + "\n")


def sha256_file(path: Path) -> str:
    """Compute the sha256 (hex) of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def record_files(root: Path, paths: Iterable[Path]) -> list[FileRecord]:
    """Record size and hash of every given file, sorted by the path relative to `root`."""
    return sorted(
        (FileRecord(path.relative_to(root).as_posix(), path.stat().st_size, sha256_file(path)) for path in paths),
        key=lambda record: record.path,
    )

"""Atomic writing, hashing and listing of files.

A draft is written beside the target, flushed to the disk and renamed over the target. So a reader never finds
half a file. A killed process leaves its draft; whoever owns the folder next (`utils.lock`) removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tcs_edge.errors import MissingError

# A file size limit, a failing disk, a path that cannot be a folder: problems of the place, not bugs of tcs-edge.
_UNWRITABLE = frozenset(
    {errno.EFBIG, errno.EIO, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
)
_UNMOVABLE = frozenset({errno.EBUSY, errno.EXDEV})
_DRAFT = re.compile(r"\.(.*\.)?draft-\d+(\..*)?")


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
        raise write_error(error, target) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty draft folder beside `target`; put it into the place of `target` when the block succeeds.

    If the block raises, the target is unchanged. The caller must own `target` and have called `restore_folder`,
    which undoes a replacement that was killed halfway.

    Raises:
        MissingError: the disk is full, or the folder cannot be written or replaced.
    """
    draft = target.with_name(f".{target.stem}.draft-{os.getpid()}{target.suffix}")
    try:
        make_folder(draft, new=True)
        yield draft
        for path in draft.rglob("*"):
            if path.is_file():
                with path.open("rb+") as handle:
                    os.fsync(handle.fileno())
        _replace_folder(target, draft)
    except OSError as error:
        raise write_error(error, target) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def restore_folder(target: Path) -> None:
    """Undo a replacement by `atomic_folder` that was killed halfway. The caller must own `target`."""
    earlier = _earlier(target)
    if earlier.is_dir() and not target.exists():
        earlier.rename(target)
    shutil.rmtree(earlier, ignore_errors=True)


def _replace_folder(target: Path, draft: Path) -> None:
    earlier = _earlier(target)
    try:
        if target.exists():
            target.rename(earlier)
        draft.rename(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            if not target.exists():
                earlier.rename(target)
        if error.errno in _UNMOVABLE:  # such as a mounted volume
            raise MissingError(f"{target} cannot be replaced: {error.strerror}. Choose a folder inside it.") from error
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _earlier(target: Path) -> Path:
    return target.with_name(f".{target.name}.earlier")


def is_draft(name: str) -> bool:
    """Return True for the file name of a draft, of any process and target."""
    return _DRAFT.fullmatch(name) is not None


def remove_drafts(folder: Path) -> None:
    """Remove all drafts below `folder`, which killed processes left. The caller must own the folder."""
    for place, folders, files in os.walk(folder):
        for name in filter(is_draft, (*folders, *files)):
            with contextlib.suppress(OSError):
                remove(Path(place, name))


def remove_drafts_of(target: Path) -> None:
    """Remove all drafts of one file, which killed processes left. The caller must own the file."""
    pattern = re.compile(rf"\.{re.escape(target.stem)}\.draft-\d+{re.escape(target.suffix)}")
    with contextlib.suppress(OSError):
        for entry in list(target.parent.iterdir()):
            if pattern.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    remove(entry)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its content.

    Raises:
        OSError: it is missing or cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def write_error(error: OSError, target: Path, unwritable: Collection[int] = _UNWRITABLE) -> Exception:
    """Return a MissingError for a problem of the place, such as a full disk; other errors unchanged."""
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
        raise write_error(error, folder, {errno.ENOENT, *_UNWRITABLE}) from error


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

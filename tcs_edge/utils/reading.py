"""Guarded reading of JSON and TOML.

Files from outside are read once and with bounds: only regular files, a maximal size, a maximal depth.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import math
import stat
import tomllib
from pathlib import Path
from typing import Any, BinaryIO

from tcs_edge.errors import DataError, SpecError, reason_of

MAX_DOCUMENT_BYTES = 128 * 2**20  # predictions of a million images
MAX_DEPTH = 64
TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"
MAX_TOML_INTEGER = 2**63  # by the TOML specification
MAX_JSON_DIGITS = 300  # of an integer, which still converts to a float
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_ADVICE = "Run: git lfs pull"
_BLOCK = 2**20
NOT_REGULAR = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def read_json(source: Path, schema_version: int) -> dict[str, Any]:
    """Read a JSON document of the given schema version.

    Raises:
        DataError: the file is missing, is not JSON, or has another schema version.
    """
    try:
        document = load_json(source)
    except FileNotFoundError:
        raise DataError(
            f"no such file: {source}. Check the path. An interrupted run has not written all its files."
        ) from None
    came = document.get("schema_version") if isinstance(document, dict) else None
    if type(came) is not int or came != schema_version:
        newer = type(came) is int and came > schema_version
        advice = "Update with: pip install --upgrade tcs-edge" if newer else "Create it again."
        shown = reason_of(ValueError(repr(came)), limit=60)
        raise DataError(f"{source}: schema_version is {shown}, this version reads {schema_version}. {advice}")
    return dict(document)


def load_json(source: Path, problem: str = "is not JSON", advice: str = "Restore the file, or create it again.") -> Any:
    """Read the JSON value in a file, as `parse_json` does.

    Raises:
        FileNotFoundError: no such file.
        DataError: as `read_regular` and `parse_json`.
    """
    return parse_json(read_regular(source), str(source), problem, advice)


def parse_json(
    content: bytes,
    origin: str,
    problem: str = "is not JSON",
    advice: str = "Restore the file, or create it again.",
) -> Any:
    """Parse JSON in UTF-8, with or without a byte order mark.

    Args:
        origin: source of `content`, for messages.
        problem, advice: second part and end of the message.

    Raises:
        DataError: not JSON, two equal keys in an object, NaN or Infinity, a number out of range, nesting
            deeper than `MAX_DEPTH`, text that is not Unicode, or a Git LFS pointer.
    """
    refuse_lfs_pointer(content, origin)
    try:
        document = json.loads(
            _decoded(content),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_integer,
        )
        _require_plain(document)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{origin} {problem}: {_reason(error)}. {advice}") from None
    return document


def read_toml(source: Path, missing: str) -> dict[str, Any]:
    """Read a TOML file in UTF-8, with or without a byte order mark.

    Args:
        missing: message for a missing file.

    Raises:
        SpecError: missing, not a regular file, not TOML, a number out of range, or nesting deeper than
            `MAX_DEPTH`.
    """
    try:
        content = read_regular(source)
        refuse_lfs_pointer(content, str(source))
    except FileNotFoundError:
        raise SpecError(missing) from None
    except DataError as error:
        raise SpecError(str(error)) from None
    try:
        document = tomllib.loads(_decoded(content))
        _require_plain(document, MAX_TOML_INTEGER)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{source} is not TOML: {_reason(error)}. Repair the file.") from None
    return document


def read_regular(source: Path, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Read a regular file of at most `limit` bytes; never wait for a pipe or a device.

    Raises:
        FileNotFoundError: no such file.
        DataError: not a regular file, larger than `limit`, or unreadable.
    """
    try:
        facts = source.stat()
        kind = stat.S_IFMT(facts.st_mode)
        if kind != stat.S_IFREG:
            raise DataError(f"{source} is {NOT_REGULAR.get(kind, 'not a file')}. Pass a regular file.")
        with source.open("rb") as handle:
            content = _read(handle, facts.st_size, limit) if facts.st_size <= limit else b""
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{source} cannot be read: {reason}. Check the path.") from None
    if max(len(content), facts.st_size) > limit:
        raise DataError(f"{source} is larger than {limit / 1e6:.0f} MB. Pass another file.")
    return content


def _read(handle: BinaryIO, expected: int, limit: int) -> bytes:
    """Read at most `limit` + 1 bytes, without a buffer of that size for a file of `expected` bytes."""
    content = handle.read(expected + 1)
    while len(content) > expected and len(content) <= limit and (more := handle.read(min(_BLOCK, limit + 1))):
        content += more  # the file grows, or the system does not state its size
    return content


def is_file(path: Path) -> bool:
    """Return True for a regular file; False also for a path that the system refuses, such as a very long one."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Return True for a folder; False also for a path that the system refuses, such as a very long one."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def refuse_lfs_pointer(content: bytes, origin: str) -> None:
    """Refuse a Git LFS pointer, which stands for a file that was not downloaded.

    Args:
        content: the start of the file.

    Raises:
        DataError: it is a pointer.
    """
    if content.startswith(LFS_POINTER):
        raise DataError(f"{origin} is a Git LFS pointer, not the file itself. {LFS_ADVICE}")


def is_lfs_pointer(path: Path) -> bool:
    """Return True for a Git LFS pointer; False also for a file that cannot be read."""
    try:
        require_content(path)
    except DataError:
        return True
    return False


def require_content(path: Path) -> None:
    """Apply `refuse_lfs_pointer` to the start of a file; anything that cannot be read, or is not a file, passes.

    Raises:
        DataError: it is a pointer.
    """
    if not is_file(path):  # opening a pipe would wait
        return
    with contextlib.suppress(OSError, ValueError), path.open("rb") as handle:
        refuse_lfs_pointer(handle.read(len(LFS_POINTER)), str(path))


def _decoded(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it is in UTF-16. Save it as UTF-8")
    return content.decode("utf-8-sig")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} appears twice")
    return document


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is out of range")
    return number


def _integer(text: str) -> int:
    if len(text) > MAX_JSON_DIGITS:
        raise ValueError(f"the number {text[:20]}... is out of range")
    return int(text)


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if "integer string conversion" in str(error):  # Python's limit on digits, for TOML
        return "an integer is out of range"
    if isinstance(error, UnicodeError):
        return "it has text that is not Unicode in UTF-8"
    return reason_of(error)


def _require_plain(document: object, limit: int | None = None) -> None:
    """Refuse a document that later code could not handle, level by level without recursion.

    Args:
        limit: integers must be in -limit..limit - 1; None allows all.

    Raises:
        ValueError: too deep, an integer out of range, or half a surrogate pair.
    """
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below += value
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str):
                value.encode("utf-8")  # raises UnicodeEncodeError for half a surrogate pair
            elif type(value) is int and limit and not -limit <= value < limit:
                raise ValueError("an integer is out of range")
        if not below:
            return
        level = below
    raise ValueError(TOO_DEEP)

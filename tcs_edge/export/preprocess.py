"""labels.txt and preprocess.json: what a program on the device needs beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tcs_edge.errors import DataError
from tcs_edge.utils.files import write_json, write_text


def require_labels(labels: Sequence[str]) -> None:
    """Class names must be there, differ, and fit one line each.

    Raises:
        DataError: none at all, an empty one, one with a line break, or one that comes twice.
    """
    if not labels:
        raise DataError("no class names: a classifier needs at least one.")
    seen: set[str] = set()
    for label in labels:
        # splitlines knows every separator that a reader of labels.txt may break at, U+2028 too.
        if label.splitlines() != [label]:
            raise DataError(f"class name {label!r} is empty or has a line break. Rename its folder.")
        if label in seen:
            raise DataError(f"class name {label!r} comes twice. Rename one of the folders.")
        seen.add(label)


def write_labels(path: Path, labels: Sequence[str]) -> Path:
    """Write one class name per line, line i naming logit i.

    Raises:
        DataError: class names that cannot be told apart line by line.
    """
    require_labels(labels)
    write_text(path, "".join(f"{label}\n" for label in labels))
    return path


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names as `write_labels` wrote them.

    Raises:
        DataError: no such file, not UTF-8, or names that `write_labels` would refuse.
    """
    try:
        labels = tuple(path.read_text(encoding="utf-8").split("\n")[:-1])
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    require_labels(labels)
    return labels


def write_preprocess(path: Path, preprocess: Mapping[str, Any]) -> Path:
    """Write the JSON document of the preprocessing; it carries its own `schema_version`."""
    write_json(path, dict(preprocess))
    return path

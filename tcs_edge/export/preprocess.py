"""Read and write labels.txt and preprocess.json, which a program on the device needs beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tcs_edge.errors import DataError, reason_of, short
from tcs_edge.utils.files import write_json, write_text
from tcs_edge.utils.reading import read_regular


def require_labels(labels: Sequence[str]) -> None:
    """Check that there are class names, and that they differ and fit one line each.

    Raises:
        DataError: no names, an empty name, a name with a line break, or a repeated name.
    """
    if not labels:
        raise DataError("no class names: a classifier needs at least one.")
    seen: set[str] = set()
    for label in labels:
        # splitlines splits at every separator of a reader of labels.txt, U+2028 too.
        if label.splitlines() != [label]:
            raise DataError(f"class name {short(label)} is empty or has a line break. Rename its folder.")
        if label in seen:
            raise DataError(f"class name {short(label)} is repeated. Rename one of the folders.")
        seen.add(label)


def write_labels(path: Path, labels: Sequence[str]) -> Path:
    """Write one class name per line, in the order of the logits.

    Raises:
        DataError: as `require_labels`.
    """
    require_labels(labels)
    write_text(path, "".join(f"{label}\n" for label in labels))
    return path


def read_labels(path: Path) -> tuple[str, ...]:
    """Read the class names that `write_labels` wrote.

    Raises:
        DataError: the file is missing or not UTF-8, or as `require_labels`.
    """
    try:
        labels = tuple(read_regular(path).decode().split("\n")[:-1])
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}. Restore the file.") from None
    require_labels(labels)
    return labels


def write_preprocess(path: Path, preprocess: Mapping[str, Any]) -> Path:
    """Write the JSON document of the preprocessing, which includes its `schema_version`."""
    write_json(path, dict(preprocess))
    return path

"""Read the list of a bundle's files, and check them, without torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from tcs_edge.errors import DataError
from tcs_edge.utils.files import sha256_file
from tcs_edge.utils.reading import is_file, read_json, read_regular

KIND: Literal["tcs-edge bundle"] = "tcs-edge bundle"
ABOUT, SUMS = "bundle.json", "SHA256SUMS"
SCHEMA_VERSION = 1
MOST_SUMS_BYTES = 1_000_000
_LINE = re.compile(r"([0-9a-f]{64})  (\w[\w.+-]*)", re.ASCII)
_AGAIN = "Make the bundle again."


def listed_hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 by file name of a bundle's SHA256SUMS.

    Raises:
        DataError: it is missing, or names a file outside the folder.
    """
    path = folder / SUMS
    try:
        lines = read_regular(path, MOST_SUMS_BYTES).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        raise DataError(f"{folder} is not a bundle: it has no {SUMS}. {_AGAIN}") from None
    hashes: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        found = _LINE.fullmatch(line)
        if not found or found[2] == SUMS or found[2] in hashes:
            raise DataError(f"{path} line {number} is not the hash and the name of a file. {_AGAIN}")
        hashes[found[2]] = found[1]
    return hashes


def verify_bundle(folder: Path, run_hashes: frozenset[str]) -> tuple[str, ...]:
    """Check that a bundle has the files of its SHA256SUMS, and a model of the run.

    Args:
        run_hashes: sha256 of the run's files.

    Returns:
        Names of the files, SHA256SUMS included.

    Raises:
        DataError: a file is missing, changed or a link, or the model is of another run.
    """
    hashes = listed_hashes(folder)
    for name, expected in hashes.items():
        path = folder / name
        if path.is_symlink() or not is_file(path) or sha256_file(path) != expected:
            raise DataError(f"{path} is missing or changed. {_AGAIN}")
    about = read_json(folder / ABOUT, SCHEMA_VERSION) if ABOUT in hashes else {}
    models = about.get("model_sha256")
    if about.get("kind") != KIND or not isinstance(models, list) or not models:
        raise DataError(f"{folder} is not a bundle: {ABOUT} has no model. {_AGAIN}")
    if not {str(model) for model in models} <= run_hashes & frozenset(hashes.values()):
        raise DataError(f"{folder} has the model of another run. {_AGAIN}")
    return (*sorted(hashes), SUMS)

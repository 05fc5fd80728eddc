"""Read a Parquet file of features in a process of its own, because pyarrow aborts the process on some damaged files.

The process writes the features as features.npy and the other columns as parts.json, which this one then reads.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tcs_edge.errors import DataError, MissingError, cut, reason_of
from tcs_edge.utils.installed import is_installed
from tcs_edge.utils.processes import run_attached
from tcs_edge.utils.reading import load_json

FEATURES = "features"
KEYS = ("names", "sha256")
MOST_VALUES = 2**30
_ARRAY, _PARTS = "features.npy", "parts.json"


def read_parquet(content: bytes, path: Path) -> dict[str, Any]:
    """Return the columns of a file: `features` as an array, `names` and `sha256` as lists, and None for others.

    Args:
        content: the bytes of the file.
        path: its name in messages.

    Raises:
        MissingError: pyarrow is not installed. DataError: damaged, too many values, or no such columns.
    """
    if not is_installed("pyarrow"):
        raise MissingError(f"{path}: reading .parquet needs pyarrow. Install it with: pip install 'tcs-edge[parquet]'")
    with tempfile.TemporaryDirectory(prefix="tcs-edge-") as name:
        folder = Path(name)
        (folder / "features.parquet").write_bytes(content)
        done = run_attached(__name__, str(folder))
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"pyarrow ended with code {done.returncode}"]
            raise DataError(f"{path} cannot be read as Parquet: {cut(lines[-1].strip(), 200)}. Write it again.")
        parts: dict[str, Any] = load_json(folder / _PARTS)
        if FEATURES in parts:
            parts[FEATURES] = np.load(folder / _ARRAY, allow_pickle=False)
        return parts


def _convert(folder: Path) -> None:
    """Write the columns of features.parquet as `read_parquet` reads them."""
    from pyarrow import parquet

    file = parquet.ParquetFile(folder / "features.parquet")
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    values = sum(group.column(index).num_values for group in groups for index in range(group.num_columns))
    if values > MOST_VALUES:
        raise ValueError(f"{values} values are above {MOST_VALUES}. Store only the images of this run")
    parts: dict[str, Any] = dict.fromkeys(file.schema_arrow.names)
    table = file.read(columns=[name for name in (FEATURES, *KEYS) if name in parts])
    for name in KEYS:
        if name in parts:
            parts[name] = [str(text) for text in _texts(table.column(name).to_pylist(), name)]
    if FEATURES in parts:
        np.save(folder / _ARRAY, _rows(table.column(FEATURES).combine_chunks()), allow_pickle=False)
    (folder / _PARTS).write_text(json.dumps(parts), encoding="utf-8")


def _texts(values: list[Any], name: str) -> list[Any]:
    try:
        found = [one.decode() if isinstance(one, bytes) else one for one in values]
    except UnicodeDecodeError:
        found = [None]
    if not all(isinstance(one, str) for one in found):
        raise ValueError(f"{name} is not a column of texts")
    return found


def _rows(array: Any) -> np.ndarray:
    """Return a column of lists of equal length as (N, d)."""
    from pyarrow import types

    kind = array.type
    fixed = types.is_fixed_size_list(kind)
    listed = fixed or types.is_list(kind) or types.is_large_list(kind)
    if not listed or not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        raise ValueError(f"{FEATURES} is a column of {kind}, not of lists of numbers")
    if array.null_count:  # `flatten` skips them, and the rows behind them would move up
        raise ValueError(f"{array.null_count} rows of {FEATURES} are null")
    lengths = {kind.list_size} if fixed else set(array.value_lengths().to_pylist())
    if len(lengths) > 1:
        raise ValueError(f"the rows of {FEATURES} have several lengths")
    return np.asarray(array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), *(lengths or {0})))


if __name__ == "__main__":
    try:
        _convert(Path(sys.argv[1]))
    except Exception as error:  # pyarrow raises many types on damaged bytes
        sys.exit(reason_of(error))

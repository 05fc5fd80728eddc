"""Read a file of features that were computed elsewhere: .npz, .safetensors or .parquet.

All three formats have the same parts: `features`, (N, d) floating-point numbers, and either `names` or `sha256`, N
texts that say which image a row belongs to. An .npz or .safetensors may have one vector (d,) for each image instead,
under its name or sha256. docs/how-to/teachers.md describes them. Nothing in such a file can run code, and its size is
bounded.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from tcs_edge.errors import DataError, MissingError, UsageError, cut, reason_of, short
from tcs_edge.teachers.parquet_file import read_parquet
from tcs_edge.utils.reading import parse_json, read_regular, refuse_lfs_pointer

FLAG = "--teacher-features"
MAX_BYTES = 4 * 2**30  # of the file, and of each array in it
FEATURES, NAMES, SHA256 = "features", "names", "sha256"
_PARTS = f"{FEATURES} (N, d), and {NAMES} or {SHA256} (N)"
_HEX_SHA256 = re.compile("[0-9a-fA-F]{64}")


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Rows of a file of features.

    Attributes:
        keys: one text per row: the image's name, or the sha256 (hex) of its bytes if `hashed`.
        features: float16, float32 or float64 (N, d).
    """

    keys: tuple[str, ...]
    hashed: bool
    features: np.ndarray


def read_feature_file(path: Path) -> tuple[FeatureRows, bytes]:
    """Read the rows of a file; return them with the bytes of the file.

    Raises:
        UsageError: another file type. MissingError: no such file, or no pyarrow for .parquet.
        DataError: damaged, above `MAX_BYTES`, a pickle inside, another layout, or a key that appears twice.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path} does not end in {', '.join(_READERS)}. Pass {FLAG} one of these.")
    try:
        content = read_regular(path, MAX_BYTES)
    except FileNotFoundError:
        raise MissingError(f"no such file: {path}. Pass {FLAG} PATH.") from None
    refuse_lfs_pointer(content, str(path))
    try:
        parts = read(content, path)
    except MemoryError:
        raise DataError(f"{path} does not fit into memory. Store float16, and only the images of this run.") from None
    return _checked(parts, path), content


def _checked(parts: dict[str, Any], path: Path) -> FeatureRows:
    """Return the rows of the parts that a reader found: `features`, and `names` or `sha256`."""
    parts = _stacked(parts)
    keyed = [name for name in (NAMES, SHA256) if name in parts]
    if FEATURES not in parts or len(keyed) != 1:
        raise DataError(f"{path} has {cut(', '.join(sorted(parts)), 200) or 'nothing'}. It needs {_PARTS}.")
    features, keys = np.asarray(parts[FEATURES]), _texts(parts[keyed[0]], f"{path}: {keyed[0]}")
    if features.dtype.kind != "f" or features.ndim != 2 or features.shape[1] < 2:
        shown = f"{features.dtype} {features.shape}"
        raise DataError(f"{path}: {FEATURES} is {shown}. It needs float16 or float32 (N, d), with d of 2 or more.")
    if len(keys) != len(features):
        raise DataError(f"{path} has {len(keys)} {keyed[0]} for {len(features)} rows of {FEATURES}. Write it again.")
    hashed = keyed[0] == SHA256
    if hashed:
        keys = tuple(key.lower() for key in keys)
    if len(set(keys)) != len(keys):
        seen: set[str] = set()
        twice = [key for key in keys if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
        fix = "Keep one row of each" if hashed else "Name images by their path in the data folder, one row for each"
        raise DataError(f"{path}: {len(twice)} {keyed[0]} appear twice, such as {short(twice[0])}. {fix}.")
    return FeatureRows(keys, hashed, features)


def _stacked(parts: dict[str, Any]) -> dict[str, Any]:
    """Return `features` and their keys of a file with one vector for each image, (d,) or (1, d); others unchanged."""
    keys, rows = list(parts), list(parts.values())
    if not _is_keyed_by_image(parts) or not all(isinstance(row, np.ndarray) and row.dtype.kind == "f" for row in rows):
        return parts
    if len({row.shape for row in rows}) != 1 or rows[0].ndim == 0 or rows[0].size != rows[0].shape[-1]:
        return parts
    kind = SHA256 if all(map(_HEX_SHA256.fullmatch, keys)) else NAMES
    return {FEATURES: np.stack(rows).reshape(len(rows), -1), kind: keys}


def _is_keyed_by_image(names: Collection[str]) -> bool:
    return bool(names) and not {FEATURES, NAMES, SHA256} & set(names)


def _texts(values: Any, origin: str) -> tuple[str, ...]:
    """Return texts of a list, or of an array of text or bytes."""
    try:
        found = values.tolist() if isinstance(values, np.ndarray) and values.ndim == 1 else values
        if isinstance(found, list):
            found = [one.decode() if isinstance(one, bytes) else one for one in found]
    except (ValueError, SystemError):  # bytes or code points that are no text
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise DataError(f"{origin} is not a list of texts. Write one text for each row.")
    return tuple(found)


def _read_npz(content: bytes, path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {name: members[name] for name in (FEATURES, NAMES, SHA256) if name in members}
            if _is_keyed_by_image(members) and len({info.file_size for info in members.values()}) == 1:
                wanted = members
                if sum(info.file_size for info in members.values()) > MAX_BYTES:
                    raise DataError(f"{path} holds more than {MAX_BYTES / 1e6:.0f} MB. Store float16.")
            return dict.fromkeys(members) | {name: _array(archive, info, path) for name, info in wanted.items()}
    except (DataError, MemoryError):
        raise
    except Exception as error:  # zlib, zipfile and numpy raise many types on damaged bytes
        raise DataError(
            f"{path} cannot be read: {reason_of(error)}. Write it with numpy.savez, without Python objects."
        ) from None


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """Read an array after a check of its header against its size; a false shape would allocate too much memory."""
    if info.file_size > MAX_BYTES:
        raise DataError(f"{path}: {info.filename} is larger than {MAX_BYTES / 1e6:.0f} MB. Store float16.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} has a compression that numpy does not write")
    with archive.open(info) as handle:
        content = io.BytesIO(handle.read())
    version = np.lib.format.read_magic(content)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(content)
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds Python objects")
    if math.prod(shape) * dtype.itemsize != len(content.getbuffer()) - content.tell():
        raise ValueError(f"{info.filename} states shape {shape}, which its size contradicts")
    content.seek(0)
    array: np.ndarray = np.lib.format.read_array(content, allow_pickle=False)
    return array


def _read_safetensors(content: bytes, path: Path) -> dict[str, Any]:
    try:
        tensors: dict[str, Any] = {name: _as_array(tensor) for name, tensor in load_safetensors(content).items()}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:  # TypeError: a type that numpy lacks
        raise DataError(
            f"{path} cannot be read as safetensors of float16 or float32: {reason_of(error)}. Write it again."
        ) from None
    header = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")], str(path))
    metadata = header.get("__metadata__") or {}
    keys = {name: metadata[name] for name in (NAMES, SHA256) if name in metadata}
    return tensors | {name: parse_json(text.encode(), f"{path}: {name}") for name, text in keys.items()}


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


_READERS: dict[str, Callable[[bytes, Path], dict[str, Any]]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".parquet": read_parquet,
}

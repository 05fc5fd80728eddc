"""Read and write .npz files of a few arrays, without pickle. No array is allocated before its size is checked."""

import io
import json
import math
import os
import stat
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

MOST_BYTES = 8 * 2**30  # of a file
ABOUT = "about"


def write_arrays(path: Path, about: Mapping[str, Any], arrays: "Mapping[str, np.ndarray]") -> None:
    """Write `arrays`, and `about` as JSON, into one file, whole or not at all. A link at `path` is replaced.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    text = np.frombuffer(json.dumps(dict(about)).encode(), dtype=np.uint8)

    def write(file: "IO[bytes]") -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, values in {ABOUT: text, **arrays}.items():
                content = io.BytesIO()
                np.lib.format.write_array(content, np.ascontiguousarray(values), allow_pickle=False)
                # A fixed date, so that equal arrays give equal files.
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())

    write_whole(path, write)


def write_whole(path: Path, write: "Callable[[IO[bytes]], None]") -> None:
    """Write a file whole or not at all; a link at `path` is replaced, not followed.

    Raises:
        OSError: not written.
    """
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink()
        raise


def read_arrays(path: Path, kind: str, ends: "Mapping[str, int]") -> "tuple[dict[str, Any], dict[str, np.ndarray]]":
    """Return the JSON object and the arrays of a file that `write_arrays` wrote.

    Args:
        kind: value of "kind" in the JSON object.
        ends: number of axes of each array; all arrays are finite float32.

    Raises:
        ValueError: damaged, of another kind, or with other arrays. OSError: not readable, or not a regular file.
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(_member(archive, ABOUT, np.dtype(np.uint8), 1).tobytes())
            if not isinstance(about, dict) or about.get("kind") != kind:
                raise ValueError(f"not a {kind}")
            if type(about.get("schema_version")) is not int or about["schema_version"] != 1:
                raise ValueError("another version of tcs-edge wrote it")
            arrays = {name: _member(archive, name, np.dtype(np.float32), axes) for name, axes in ends.items()}
    except OSError:
        raise
    except Exception as error:  # zipfile, json and numpy raise many types on damaged bytes
        raise ValueError(f"{path.name} cannot be read: {str(error) or type(error).__name__}") from None
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{path.name} cannot be read: {name} has values that are NaN or infinite")
    return about, arrays


def require_file(path: Path, most_bytes: int = MOST_BYTES) -> None:
    """Check that a path is a regular file, or a link to one, of at most `most_bytes`; a pipe would wait for ever.

    Raises:
        ValueError: it is larger. OSError: it is missing, or not a regular file.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(f"{path.name} is not a regular file")
    if facts.st_size > most_bytes:
        raise ValueError(f"{path.name} is larger than {most_bytes / 1e6:.0f} MB")


def hashes_in(about: "Mapping[str, Any]") -> "tuple[str, ...]":
    """Return the sha256 of the files of the model that made a file.

    Raises:
        ValueError: they are not a list of texts.
    """
    stated = about.get("model_sha256")
    if not isinstance(stated, list) or not stated or not all(isinstance(one, str) for one in stated):
        raise ValueError("it does not name its model")
    return tuple(sorted(stated))


def _member(archive: zipfile.ZipFile, name: str, dtype: "np.dtype[Any]", axes: int) -> np.ndarray:
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > MOST_BYTES:
        raise ValueError(f"{name} is compressed or too large")
    with archive.open(info) as file:
        content = io.BytesIO(file.read())
    version = np.lib.format.read_magic(content)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, stored = read_header(content)
    if stored != dtype or len(shape) != axes or min(shape) < 0:
        raise ValueError(f"{name} is {stored} {shape}")
    if math.prod(shape) * dtype.itemsize != len(content.getbuffer()) - content.tell():
        raise ValueError(f"{name} states shape {shape}, which its size contradicts")
    content.seek(0)
    values: np.ndarray = np.lib.format.read_array(content, allow_pickle=False)
    return values


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Return rows (N, k) at unit length, float32; a row of zeros stays."""
    values = np.asarray(values, dtype=np.float64)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(norms > 0, norms, 1.0), dtype=np.float32)

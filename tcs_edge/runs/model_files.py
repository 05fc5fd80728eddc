"""Group the files of an export folder into models: a model file is all that a runtime needs to load one model.

An OpenVINO .xml and its .bin are one model. So are an ncnn .param with its .bin and .json, a LiteRT .tflite with its
.json, and an ONNX file with its external data.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from tcs_edge.runs.folder import REJECTED_SUFFIX
from tcs_edge.specs.artifacts import BESIDE, SIDECARS

ONNX_DATA_ENDINGS = (".data", "_data")  # as torch and onnx name external data: model.onnx.data, model.onnx_data


def models_of(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the bytes of every model, by the path of its main file.

    A file that belongs to no other file is a model of its own, so that no byte is left out.

    Args:
        sizes: bytes by path of all exported files, with forward slashes; rejected ones end in `REJECTED_SUFFIX`.
    """
    models: dict[str, int] = {}
    for path, size in sizes.items():
        if PurePosixPath(path.removesuffix(REJECTED_SUFFIX)).name not in SIDECARS:
            main = _main_file(path, sizes)
            models[main] = models.get(main, 0) + size
    return models


def sizes_in(folder: Path) -> dict[str, int]:
    """Return the bytes of every file in `folder` and below, by its path relative to it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _main_file(path: str, known: Collection[str]) -> str:
    """Return the path of the file that `path` belongs to, which may be itself."""
    plain = path.removesuffix(REJECTED_SUFFIX)
    rejected = path[len(plain) :]
    pure = PurePosixPath(plain)
    candidates = [pure.with_suffix(main) for main, beside in BESIDE.items() if pure.suffix in beside]
    for ending in ONNX_DATA_ENDINGS:
        if plain.endswith(ending):
            candidates += [PurePosixPath(plain.removesuffix(ending)), pure.with_suffix(".onnx")]
    mains = (f"{candidate}{rejected}" for candidate in candidates if candidate.suffix in BESIDE)
    return next((main for main in mains if main in known), path)

"""Measure an .onnx file: its size with external data, its weights, its memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx

from tcs_edge.export.memory import estimated_peak_memory_mb
from tcs_edge.gate.measures import Measure
from tcs_edge.runtimes.onnx_file import all_tensors, external_files, read_onnx

Type = onnx.TensorProto.DataType
NOT_WEIGHTS = {Type.INT64, Type.BOOL, Type.STRING}  # shapes, axes and switches
SHORT = {"float": "f32", "float16": "f16", "bfloat16": "bf16", "double": "f64", "uint8": "int8"}


def onnx_measures(path: Path) -> tuple[tuple[Measure, ...], str]:
    """Return size, parameters and memory of an ONNX file, and the most common type of its weights.

    Parameters are the elements of all weights, including those in constant nodes. An exporter folds batch
    norms, so a file has slightly fewer than the trained network.

    Raises:
        DataError: not an ONNX file, or external data outside its folder.
    """
    model = read_onnx(path)
    tensors = list(all_tensors(model))
    elements: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.data_type not in NOT_WEIGHTS:
            elements[Type.Name(tensor.data_type).lower()] += math.prod(tensor.dims)
    common = elements.most_common(1)[0][0] if elements else "none"
    memory = estimated_peak_memory_mb(path)
    unknown = "" if memory is not None else "the graph has a shape that is not fixed"
    measures = (
        *_sizes(path, external_files(path, model)),
        Measure("params_m", elements.total() / 1e6, detail="counted in the file"),
        Measure("peak_memory_mb", memory, detail=unknown or "weights and live activations, without the runtime itself"),
    )
    return measures, SHORT.get(common, common)


def _sizes(path: Path, external: list[Path]) -> Iterator[Measure]:
    files = [path, *external]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        yield Measure("size_mb", None, detail=f"its data file {missing[0]} is missing")
        return
    yield Measure("size_mb", sum(file.stat().st_size for file in files) / 1e6, detail=f"{len(files)} files")
    for file in files:
        yield Measure("file_mb", file.stat().st_size / 1e6, file.relative_to(path.parent).as_posix())

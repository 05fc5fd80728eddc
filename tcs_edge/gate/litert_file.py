"""Measure a LiteRT .tflite file, with the .json file beside it."""

from __future__ import annotations

from pathlib import Path

from tcs_edge.gate.measures import ModelFile, model_sizes, parameters, with_indices
from tcs_edge.runtimes.litert_file import read_litert

SHORT = {"float": "f32", "float16": "f16"}
INDICES = ("int32", "int64")


def litert_measures(path: Path) -> ModelFile:
    """Measure size and parameters of a LiteRT model.

    Parameters are the elements of all constants, without a few shapes and axes. The number is None if a constant has
    other bytes than its shape needs, so that no limit on it passes. The memory is unknown.

    Raises:
        DataError: not a .tflite file.
    """
    found = read_litert(path)
    elements = with_indices(found.elements, INDICES)
    common = elements.most_common(1)[0][0] if elements else "none"
    size = sum(file.stat().st_size for file in (path, path.with_suffix(".json")) if file.is_file())
    measures = (*model_sizes({"": size}), parameters(elements.total(), found.problem))
    return ModelFile(measures, SHORT.get(common, common), found.problem)

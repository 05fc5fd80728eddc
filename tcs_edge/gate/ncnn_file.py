"""Measure an ncnn .param file and the .bin file beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tcs_edge.gate.measures import Measure, ModelFile, model_sizes, parameters
from tcs_edge.runtimes.ncnn_file import read_param, read_weights
from tcs_edge.utils.reading import require_content

SHORT = {"float": "f32", "float16": "f16"}


def ncnn_measures(path: Path) -> ModelFile:
    """Measure size and parameters of an ncnn model.

    Parameters are the elements of all weights. The number is None if the layers contradict the .bin file, so that no
    limit on it passes. The memory is unknown, because a .param file has no shapes.

    Raises:
        DataError: not an ncnn model.
    """
    weights_file = path.with_suffix(".bin")
    for file in (path, weights_file):
        require_content(file)
    found = read_weights(weights_file, read_param(path))
    common = found.elements.most_common(1)[0][0] if found.elements else "none"
    measures = (*_sizes(path), parameters(found.elements.total(), found.problem))
    return ModelFile(measures, SHORT.get(common, common), found.problem)


def _sizes(path: Path) -> Iterator[Measure]:
    weights, described = path.with_suffix(".bin"), path.with_suffix(".json")
    if not weights.is_file():
        return model_sizes({}, f"{weights.name} is missing beside it")
    return model_sizes({"": sum(file.stat().st_size for file in (path, weights, described) if file.is_file())})

"""Measure an OpenVINO .xml file and the .bin file beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from tcs_edge.errors import DataError, reason_of
from tcs_edge.gate.measures import Measure

NOT_WEIGHTS = {"i64", "u64", "boolean", "string"}  # shapes, axes and switches
SHORT = {"i8": "int8", "u8": "int8"}


def openvino_measures(path: Path) -> tuple[tuple[Measure, ...], str]:
    """Return size and parameters of an IR, and the most common type of its weights.

    Raises:
        DataError: not an IR.
    """
    elements: Counter[str] = Counter()
    for layer in _root(path).iter("layer"):
        if layer.get("type") == "Const" and (data := layer.find("data")) is not None:
            kind, shape = data.get("element_type", ""), data.get("shape", "")
            if kind not in NOT_WEIGHTS:
                elements[kind] += _elements(shape, path)
    common = elements.most_common(1)[0][0] if elements else "none"
    parameters = Measure("params_m", elements.total() / 1e6, detail="counted in the file")
    return (*_sizes(path), parameters), SHORT.get(common, common)


def _root(path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{path} cannot be read as an OpenVINO model: {reason_of(error)}. Export it again.") from None
    if root.tag != "net" or root.find("layers") is None:
        raise DataError(
            f"{path} is not an OpenVINO model: it contains <{root.tag}>, not a <net> with layers. Export it again."
        )
    return root


def _elements(shape: str, path: Path) -> int:
    try:
        return math.prod(int(axis) for axis in shape.split(",") if axis.strip())
    except ValueError:
        raise DataError(f"{path}: a constant has the shape {shape!r}. Export it again.") from None


def _sizes(path: Path) -> Iterator[Measure]:
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        yield Measure("size_mb", None, detail=f"{weights.name} is missing beside it")
        return
    files = (path, weights)
    yield Measure("size_mb", sum(file.stat().st_size for file in files) / 1e6, detail="2 files")
    for file in files:
        yield Measure("file_mb", file.stat().st_size / 1e6, file.name)

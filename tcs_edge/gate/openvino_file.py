"""Measure an OpenVINO .xml file and the .bin file beside it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from tcs_edge.errors import DataError, reason_of
from tcs_edge.gate.measures import INDEX_ELEMENTS, Measure, ModelFile, model_sizes, parameters, size_problem
from tcs_edge.utils.reading import require_content

INDICES = {"i64", "u64", "boolean", "u1"}  # shapes, axes and switches, unless they are large
SHORT = {"i8": "int8", "u8": "int8"}
# Bits of one element. A type that is missing here, such as a newer one, cannot be checked.
BITS = {
    "f64": 64, "f32": 32, "f16": 16, "bf16": 16, "f8e4m3": 8, "f8e5m2": 8, "f8e8m0": 8, "f4e2m1": 4, "nf4": 4,
    "i64": 64, "i32": 32, "i16": 16, "i8": 8, "i4": 4, "u64": 64, "u32": 32, "u16": 16, "u8": 8, "u6": 6, "u4": 4,
    "u3": 3, "u2": 2, "u1": 1, "boolean": 8,
}  # fmt: skip
SHAPE = re.compile(r"(-?[0-9]{1,19}(, ?-?[0-9]{1,19})*)?")
PADDING = 64  # largest unused gap in front of one constant, in bytes


def openvino_measures(path: Path) -> ModelFile:
    """Measure size and parameters of an IR.

    Parameters are the elements of all constants, used or not. Whole numbers of 64 bits and switches count from
    INDEX_ELEMENTS elements on. The number is None if a constant contradicts the .bin file, so that no limit on it
    passes.

    Raises:
        DataError: not an IR.
    """
    require_content(path)
    weights = path.with_suffix(".bin")
    require_content(weights)
    constants = [dict(data.attrib) for data in _constants(path)]
    problem = _problem(constants, weights)
    elements: Counter[str] = Counter()
    for constant in [] if problem else constants:
        kind, count = constant["element_type"], math.prod(_shape(constant))
        if kind != "string" and (kind not in INDICES or count >= INDEX_ELEMENTS):
            elements[kind] += count
    common = elements.most_common(1)[0][0] if elements else "none"
    measures = (*_sizes(path, weights), parameters(elements.total(), problem))
    return ModelFile(measures, SHORT.get(common, common), problem)


def _constants(path: Path) -> Iterator[ElementTree.Element]:
    """Yield the data of every constant, including constants of inner networks."""
    for layer in _root(path).iter("layer"):
        if layer.get("type") in ("Const", "Constant"):
            found = layer.findall("data")
            if len(found) != 1:
                raise DataError(f"{path}: a constant has {len(found)} data elements, not one. Export it again.")
            if not SHAPE.fullmatch(found[0].get("shape", "")):
                raise DataError(f"{path}: a constant has the shape {found[0].attrib['shape'][:60]!r}. Export it again.")
            yield found[0]


def _root(path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} cannot be read as an OpenVINO model: {reason_of(error)}. Export it again.") from None
    if root.tag != "net" or root.find("layers") is None:
        raise DataError(
            f"{path} is not an OpenVINO model: it contains <{root.tag[:60]}>, not a <net> with layers. Export it again."
        )
    return root


def _problem(constants: list[dict[str, str]], weights: Path) -> str:
    """Return the first contradiction between the constants and the .bin file; empty without one."""
    if not weights.is_file():
        return f"{weights.name} is missing beside it"
    stored = weights.stat().st_size
    for constant in constants:
        if reason := _constant_problem(constant, stored):
            return f"a constant of type {constant.get('element_type', '')[:60]!r}: {reason}"
    spans = ((int(constant["offset"]), int(constant["size"])) for constant in constants)
    end = unused = 0
    for offset, size in sorted(spans):
        unused += max(0, offset - end)
        end = max(end, offset + size)
    unused += stored - end
    return f"{unused} bytes of {weights.name} belong to no constant" if unused > PADDING * len(constants) else ""


def _constant_problem(constant: dict[str, str], stored: int) -> str:
    if any(not _is_number(constant.get(key, "")) for key in ("offset", "size")):
        return "its offset or its size is not a number"
    if reason := size_problem(_shape(constant)):
        return reason
    kind, size = constant.get("element_type", ""), int(constant["size"])
    if kind != "string":
        if kind not in BITS:
            return "its type is unknown"
        expected = math.ceil(math.prod(_shape(constant)) * BITS[kind] / 8)
        if size != expected:
            return f"it has {size} bytes, its shape and type need {expected}"
    return "its data ends after the end of the .bin file" if int(constant["offset"]) + size > stored else ""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _shape(constant: dict[str, str]) -> list[int]:
    axes = constant.get("shape", "")
    return [int(axis) for axis in axes.split(",")] if axes else []


def _sizes(path: Path, weights: Path) -> Iterator[Measure]:
    if not weights.is_file():
        return model_sizes({}, f"{weights.name} is missing beside it")
    return model_sizes({"": path.stat().st_size + weights.stat().st_size})

"""Measure an OpenVINO .xml file and the .bin file beside it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from tcs_edge.errors import DataError, reason_of
from tcs_edge.gate.measures import Measure, ModelFile, model_sizes, parameters, size_problem, with_indices
from tcs_edge.utils.reading import MAX_DEPTH, TOO_DEEP, read_regular, require_content

INDICES = {"i64", "u64", "boolean", "u1", "string"}  # shapes, axes, switches and names, unless they are many
SHORT = {"i8": "int8", "u8": "int8"}
# Bits of one element. A type that is missing here, such as a newer one, cannot be checked.
BITS = {
    "f64": 64, "f32": 32, "f16": 16, "bf16": 16, "f8e4m3": 8, "f8e5m2": 8, "f8e8m0": 8, "f4e2m1": 4, "nf4": 4,
    "i64": 64, "i32": 32, "i16": 16, "i8": 8, "i4": 4, "u64": 64, "u32": 32, "u16": 16, "u8": 8, "u6": 6, "u4": 4,
    "u3": 3, "u2": 2, "u1": 1, "boolean": 8,
}  # fmt: skip
SHAPE = re.compile(r"(-?[0-9]{1,19}(, ?-?[0-9]{1,19})*)?")
ENCODING = re.compile(rb"""\s*<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([^"'>]*)["']""")
MAX_XML_BYTES = 256 * 2**20
PADDING = 64  # largest unused gap in front of one constant, in bytes


def openvino_measures(path: Path) -> ModelFile:
    """Measure size and parameters of an IR.

    Parameters are the elements of all constants, used or not. Whole numbers of 64 bits, switches and texts count if
    all of them together have INDEX_ELEMENTS elements or more. The number is None if a constant contradicts the .bin
    file, so that no limit on it passes.

    Raises:
        DataError: not an IR.
    """
    require_content(path)
    weights = path.with_suffix(".bin")
    require_content(weights)
    constants = _constants(path)
    problem = _problem(constants, weights)
    elements: Counter[str] = Counter()
    for constant in [] if problem else constants:
        kind = constant["element_type"]
        # A text can hold a number in every 4 bytes.
        elements[kind] += int(constant["size"]) // 4 if kind == "string" else math.prod(_shape(constant))
    elements = with_indices(elements, INDICES)
    common = elements.most_common(1)[0][0] if elements else "none"
    measures = (*_sizes(path, weights), parameters(elements.total(), problem))
    return ModelFile(measures, SHORT.get(common, common), problem)


def _constants(path: Path) -> list[dict[str, str]]:
    """Return the attributes of every constant's data, including constants of inner networks.

    Raises:
        DataError: not an IR, or a part of it that OpenVINO may read in another way.
    """
    reader = _Reader()
    try:
        content = read_regular(path, MAX_XML_BYTES)
        if (said := ENCODING.match(content)) and said[1].lower() not in (b"utf-8", b"us-ascii"):
            raise ValueError(f"its encoding is {said[1][:60].decode(errors='replace')!r}, not UTF-8")
        content.decode()  # another encoding without a declaration
        if b"\0" in content:
            raise ValueError("it has zero bytes, as UTF-16 does")
        parser = ElementTree.XMLParser(target=reader)
        parser.feed(content)
        parser.close()
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} cannot be read as an OpenVINO model: {reason_of(error)}. Export it again.") from None
    if reader.root != "net" or not reader.has_layers:
        root = (reader.root or "nothing")[:60]
        raise DataError(
            f"{path} is not an OpenVINO model: it contains <{root}>, not a <net> with layers. Export it again."
        )
    for found in reader.constants:
        if len(found) != 1:
            raise DataError(f"{path}: a constant has {len(found)} data elements, not one. Export it again.")
        if not SHAPE.fullmatch(shape := found[0].get("shape", "")):
            raise DataError(f"{path}: a constant has the shape {shape[:60]!r}. Export it again.")
    return [found[0] for found in reader.constants]


class _Reader:
    """Receive the elements of an IR one by one; keep only the data of constants.

    Attributes:
        constants: per layer of this type, the attributes of its data elements.
    """

    def __init__(self) -> None:
        self.root: str | None = None
        self.has_layers = False
        self.constants: list[list[dict[str, str]]] = []
        self._open: list[list[dict[str, str]] | None] = []  # per open element; a list for a constant

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        # OpenVINO's parser ignores namespaces and skips document types, so it would see other elements.
        if "}" in tag:
            raise ValueError("it has XML namespaces")
        if len(self._open) > MAX_DEPTH:
            raise ValueError(TOO_DEEP)
        if self.root is None:
            self.root = tag
        self.has_layers |= tag == "layers" and len(self._open) == 1
        inside = self._open[-1] if self._open else None
        if tag == "data" and inside is not None:
            inside.append(dict(attributes))
        constant: list[dict[str, str]] | None = None
        if tag == "layer" and attributes.get("type") in ("Const", "Constant"):
            constant = []
            self.constants.append(constant)
        self._open.append(constant)

    def end(self, tag: str) -> None:
        self._open.pop()

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError("it has a document type")

    def close(self) -> None:
        return


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

"""Read LiteRT models without a runtime: the tensors of a .tflite file, and the bytes of their constants.

A .tflite file is a FlatBuffer (flatbuffers.dev, "FlatBuffer internals") with the tables of schema.fbs
(github.com/google-ai-edge/LiteRT, tflite/schema). LiteRT checks the structure when it loads a file, but a constant
may have fewer or more bytes than its shape needs. The sizes are therefore compared.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tcs_edge.errors import DataError
from tcs_edge.utils.reading import read_regular, refuse_lfs_pointer

MAGIC = b"TFL3"
ADVICE = "Export it again."
MOST_BYTES = 2**31
MOST_GRAPHS = 1000
MOST_TENSORS = 100_000
LONGEST_TEXT = 1000
MOST_AXES = 64
MOST_ELEMENTS = 2**40
# Name and bits of an element, by the number of its type; the types without a fixed size are left out.
TYPES = {
    0: ("float", 32), 1: ("float16", 16), 2: ("int32", 32), 3: ("uint8", 8), 4: ("int64", 64), 6: ("bool", 8),
    7: ("int16", 16), 9: ("int8", 8), 10: ("float64", 64), 12: ("uint64", 64), 15: ("uint32", 32), 16: ("uint16", 16),
    17: ("int4", 4), 18: ("bfloat16", 16), 19: ("int2", 2), 20: ("uint4", 4),
}  # fmt: skip
# Positions of fields in the tables of schema.fbs.
MODEL_OPERATOR_CODES, MODEL_SUBGRAPHS, MODEL_BUFFERS, MODEL_METADATA = 1, 2, 4, 6
CODE_CUSTOM = 1
SUBGRAPH_TENSORS, SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS = 0, 1, 2
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME, TENSOR_SPARSITY = 0, 1, 2, 3, 6
BUFFER_DATA, BUFFER_OFFSET, BUFFER_SIZE = 0, 1, 2
METADATA_BUFFER = 1


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph: name, shape, type such as "float", and the number of its buffer (0: computed)."""

    name: str
    shape: tuple[int, ...]
    kind: str
    bits: int
    buffer: int
    sparse: bool = False


@dataclass(frozen=True)
class Constant:
    """Bytes of a constant in the file: position of the first, number, and type of the elements."""

    start: int
    size: int
    kind: str


@dataclass(frozen=True)
class LitertModel:
    """Contents of a .tflite file.

    Attributes:
        inputs, outputs: of the first graph.
        constants: those that tensors use.
        elements: of the constants, by type.
        problem: first contradiction, or "".
    """

    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    constants: tuple[Constant, ...] = ()
    elements: Counter[str] = field(default_factory=Counter)
    problem: str = ""


def read_litert(path: Path) -> LitertModel:
    """Read the .tflite file at `path`.

    Raises:
        DataError: the file is missing, or not a .tflite file.
    """
    return parse_litert(read_content(path), path)


def read_content(path: Path) -> bytes:
    """Return the bytes of the .tflite file at `path`.

    Raises:
        DataError: the file is missing, too large or a Git LFS pointer.
    """
    try:
        content = read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        raise DataError(f"no such LiteRT file: {path}. {ADVICE}") from None
    refuse_lfs_pointer(content, str(path))
    return content


def parse_litert(content: bytes, path: Path) -> LitertModel:
    """Read the contents of a .tflite file; `path` is for messages.

    Raises:
        DataError: not a .tflite file, or one that ends early.
    """
    if content[4:8] != MAGIC:
        raise DataError(f"{path} is not a .tflite file: it has no {MAGIC.decode()} at byte 4. {ADVICE}")
    try:
        model = _Table(content, _unsigned(content, 0))
        graphs = [_tensors(graph) for graph in model.tables(MODEL_SUBGRAPHS, MOST_GRAPHS)]
        if sum(map(len, graphs)) > MOST_TENSORS:
            raise _Damaged
        if not graphs:
            raise DataError(f"{path} has no graph. {ADVICE}")
        first = next(model.tables(MODEL_SUBGRAPHS, MOST_GRAPHS))
        inputs, outputs = (_named(graphs[0], first.integers(end)) for end in (SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS))
        return _with_constants(model, [tensor for graph in graphs for tensor in graph], inputs, outputs)
    except (_Damaged, struct.error):
        raise DataError(f"{path} is a damaged .tflite file, or ends early. {ADVICE}") from None


class _Damaged(Exception):
    """A position, a length or a number outside of the file."""


def _with_constants(
    model: _Table, tensors: list[Tensor], inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> LitertModel:
    buffers = [_extent(buffer) for buffer in model.tables(MODEL_BUFFERS, MOST_TENSORS)]
    custom = [code.text(CODE_CUSTOM) for code in model.tables(MODEL_OPERATOR_CODES, MOST_TENSORS)]
    described = {entry.number(METADATA_BUFFER, "<I") for entry in model.tables(MODEL_METADATA, MOST_TENSORS)}
    constants: dict[int, Constant] = {}
    elements: Counter[str] = Counter()
    problem = next((f"operator {name[:60]} is a custom one, which LiteRT lacks" for name in custom if name), "")
    for tensor in tensors:
        if not 0 <= tensor.buffer < len(buffers):
            raise _Damaged
        start, size = buffers[tensor.buffer]
        if not size:
            continue
        problem = problem or _size_problem(tensor, size)
        if tensor.buffer not in constants:
            constants[tensor.buffer] = Constant(start, size, tensor.kind)
            elements[tensor.kind] += math.prod(tensor.shape)
    for number, (_, size) in enumerate(buffers):
        if size and number not in constants and number not in described:
            problem = problem or f"{size} bytes of buffer {number} belong to no tensor"
    return LitertModel(inputs, outputs, tuple(constants.values()), elements, problem)


def _size_problem(tensor: Tensor, size: int) -> str:
    """Return the reason why a constant cannot have `size` bytes; empty without one."""
    name = f"tensor {tensor.name[:60]}"
    if tensor.sparse:
        return f"{name} is sparse, so its bytes are not known"
    if not tensor.bits:
        return f"{name} has a type without a fixed size"
    if any(axis < 0 for axis in tensor.shape) or math.prod(tensor.shape) > MOST_ELEMENTS:
        return f"{name} has a shape that is not possible"
    needed = -(-math.prod(tensor.shape) * tensor.bits // 8)
    return "" if needed == size else f"{name} needs {needed} bytes, but has {size}"


def _tensors(graph: _Table) -> list[Tensor]:
    found = []
    for entry in graph.tables(SUBGRAPH_TENSORS, MOST_TENSORS):
        kind, bits = TYPES.get(entry.number(TENSOR_TYPE, "<b"), ("unknown", 0))
        shape, buffer = entry.integers(TENSOR_SHAPE, MOST_AXES), entry.number(TENSOR_BUFFER, "<I")
        found.append(Tensor(entry.text(TENSOR_NAME), shape, kind, bits, buffer, entry.has(TENSOR_SPARSITY)))
    return found


def _named(tensors: list[Tensor], numbers: tuple[int, ...]) -> tuple[Tensor, ...]:
    if not all(0 <= number < len(tensors) for number in numbers):
        raise _Damaged
    return tuple(tensors[number] for number in numbers)


def _extent(buffer: _Table) -> tuple[int, int]:
    """Return position and number of a buffer's bytes, which are behind the FlatBuffer in large models."""
    offset = buffer.number(BUFFER_OFFSET, "<Q")
    if offset > 1:
        return buffer.inside(offset, buffer.number(BUFFER_SIZE, "<Q"))
    start, length = buffer.vector(BUFFER_DATA)
    return buffer.inside(start, length)


def _unsigned(content: bytes, position: int) -> int:
    return int(struct.unpack_from("<I", content, position)[0])


class _Table:
    """A table of a FlatBuffer: its fields by number. Absent numbers are 0, absent lists and texts empty."""

    def __init__(self, content: bytes, position: int) -> None:
        self._content, self._position = content, position
        (back,) = struct.unpack_from("<i", content, position)
        self._offsets = position - back
        if self._offsets < 0:  # a negative position would count from the end
            raise _Damaged
        self._length = int(struct.unpack_from("<H", content, self._offsets)[0])

    def has(self, number: int) -> bool:
        """Return True if the field is present."""
        return self._at(number) != 0

    def number(self, number: int, form: str) -> int:
        """Return the number in a field."""
        at = self._at(number)
        return int(struct.unpack_from(form, self._content, at)[0]) if at else 0

    def vector(self, number: int) -> tuple[int, int]:
        """Return the position of the first element of a list, and the number of elements."""
        at = self._at(number)
        if not at:
            return 0, 0
        start = at + _unsigned(self._content, at)
        return start + 4, _unsigned(self._content, start)

    def integers(self, number: int, most: int = MOST_TENSORS) -> tuple[int, ...]:
        """Return a list of 32-bit integers."""
        start, length = self.vector(number)
        if length > most:
            raise _Damaged
        return struct.unpack_from(f"<{length}i", self._content, start) if length else ()

    def text(self, number: int) -> str:
        """Return a text, cut after `LONGEST_TEXT` bytes."""
        start, length = self.inside(*self.vector(number))
        return self._content[start : start + min(length, LONGEST_TEXT)].decode("utf-8", errors="replace")

    def tables(self, number: int, most: int) -> Iterator[_Table]:
        """Yield the tables of a list."""
        start, length = self.vector(number)
        if length > most:
            raise _Damaged
        for at in range(start, start + 4 * length, 4):
            yield _Table(self._content, at + _unsigned(self._content, at))

    def inside(self, start: int, length: int) -> tuple[int, int]:
        """Return both, if so many bytes are in the file."""
        if start + length > len(self._content):
            raise _Damaged
        return start, length

    def _at(self, number: int) -> int:
        """Return the position of a field; 0 for an absent one."""
        place = 4 + 2 * number
        if place + 2 > self._length:
            return 0
        offset = int(struct.unpack_from("<H", self._content, self._offsets + place)[0])
        return self._position + offset if offset else 0

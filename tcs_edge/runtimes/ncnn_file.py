"""Read ncnn models without a runtime: the layers of a .param file, and the weights of the .bin file beside it.

ncnn reads the .bin from start to end without any check of its own: a file of another model, or one with bytes at its
end, loads. The sizes that the layers state are therefore compared with the file. The layouts are those of ncnn's
`load_model` functions (github.com/Tencent/ncnn, src/layer and src/modelbin.cpp).
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tcs_edge.errors import DataError
from tcs_edge.utils.reading import read_regular

MAGIC = "7767517"
ADVICE = "Export it again."
MOST_LAYERS = 100_000
# ncnn reserves memory for all blobs that a file states, and writes past its end if there are more.
MOST_BLOBS = 1_000_000
MOST_ELEMENTS = 2**40
# First four bytes of a tagged block of weights. ncnn takes any other number for an index into 256 values, which no
# converter of today writes: the bytes are then those of another layer.
TAGS = {0: ("float", 4), 0x0002C056: ("float", 4), 0x01306B47: ("float16", 2), 0x000D4B38: ("int8", 1)}

NUMBER = re.compile(r"[-+]?[0-9]{1,20}(\.[0-9]{0,40})?([eE][-+]?[0-9]{1,3})?")

Params = dict[int, float]
Block = tuple[int, bool]  # elements, and True for a block with a tag in front


@dataclass(frozen=True)
class Layer:
    """One layer: its kind, name, the blobs that it reads and writes, and its numbers by key."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Params


@dataclass(frozen=True)
class Weights:
    """Weights of a model: elements by type ("float", "float16", "int8"), and the first contradiction, or ""."""

    elements: Counter[str] = field(default_factory=Counter)
    problem: str = ""


def read_param(path: Path) -> tuple[Layer, ...]:
    """Read the layers of a .param file in text form.

    Raises:
        DataError: the file is missing, or not a .param file.
    """
    try:
        text = read_regular(path).decode("utf-8")
    except FileNotFoundError:
        raise DataError(f"no such ncnn file: {path}. {ADVICE}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not an ncnn .param file: it is not text. {ADVICE}") from None
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or lines[0] != [MAGIC]:
        raise DataError(f"{path} is not an ncnn .param file: it does not start with {MAGIC}. {ADVICE}")
    counts = [int(word) if _is_whole(word) else -1 for word in lines[1]]
    if len(counts) != 2 or counts[0] != len(lines) - 2 or not 0 < counts[0] <= MOST_LAYERS:
        raise DataError(
            f"{path}: it states {' '.join(lines[1])[:40]} layers and blobs, but has {len(lines) - 2} layers. {ADVICE}"
        )
    layers = tuple(_layer(path, words) for words in lines[2:])
    blobs = sum(len(layer.outputs) for layer in layers)
    if not blobs <= counts[1] <= MOST_BLOBS:
        raise DataError(f"{path}: it states {counts[1]} blobs, but its layers write {blobs}. {ADVICE}")
    _require_connected(path, layers)
    return layers


def read_weights(path: Path, layers: tuple[Layer, ...]) -> Weights:
    """Count the weights in the .bin file at `path`, which must have exactly the blocks that `layers` need."""
    if not path.is_file():
        return Weights(problem=f"{path.name} is missing beside it")
    found: Counter[str] = Counter()
    with path.open("rb") as file:
        left = path.stat().st_size
        for layer in layers:
            blocks = _blocks(layer)
            if isinstance(blocks, str):
                return Weights(problem=f"layer {layer.name[:60]}: {blocks}")
            for elements, tagged in blocks:
                kind, size = _next_block(file, elements, tagged)
                if not kind:
                    where = f"layer {layer.name[:60]}"
                    return Weights(problem=f"the weights of {where} have no known type, so {path.name} does not fit")
                left -= size
                if left < 0:
                    return Weights(problem=f"{path.name} ends within layer {layer.name[:60]}, {-left} bytes too early")
                found[kind] += elements
                file.seek(size - (4 if tagged else 0), 1)
    return Weights(found, f"{left} bytes of {path.name} belong to no layer" if left else "")


def ends_of(layers: tuple[Layer, ...]) -> tuple[list[str], list[str]]:
    """Return the names of the input blobs, and of the blobs that no layer reads."""
    read = {name for layer in layers for name in layer.inputs}
    inputs = [name for layer in layers if layer.kind == "Input" for name in layer.outputs]
    return inputs, [name for layer in layers for name in layer.outputs if name not in read]


def _layer(path: Path, words: list[str]) -> Layer:
    numbers = words[2:4]
    if len(numbers) < 2 or not all(_is_whole(word) for word in numbers):
        raise DataError(f"{path}: a line is not a layer: {' '.join(words)[:60]!r}. {ADVICE}")
    ins, outs = int(numbers[0]), int(numbers[1])
    blobs, rest = words[4 : 4 + ins + outs], words[4 + ins + outs :]
    params: Params = {}
    for word in rest:
        key, _, value = word.partition("=")
        if not _is_whole(key.removeprefix("-")) or not value:
            raise DataError(f"{path}: layer {words[1][:60]} has {word[:40]!r} instead of KEY=VALUE. {ADVICE}")
        params[int(key)] = _number(value)
    if len(blobs) != ins + outs:
        raise DataError(f"{path}: layer {words[1][:60]} states {ins + outs} blobs, but names {len(blobs)}. {ADVICE}")
    return Layer(words[0], words[1], tuple(blobs[:ins]), tuple(blobs[ins:]), params)


def _require_connected(path: Path, layers: tuple[Layer, ...]) -> None:
    made: set[str] = set()
    for layer in layers:
        if missing := [name for name in layer.inputs if name not in made]:
            raise DataError(
                f"{path}: layer {layer.name[:60]} reads {missing[0][:60]}, which no earlier layer writes. {ADVICE}"
            )
        made.update(layer.outputs)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _number(text: str) -> float:
    """Return a number; NaN for lists and text, which no size depends on. ncnn reads only plain ASCII digits."""
    return float(text) if NUMBER.fullmatch(text) else math.nan


def _next_block(file: BinaryIO, elements: int, tagged: bool) -> tuple[str, int]:
    """Return the type of the block at the file's position and its bytes with the tag; the type is empty if unknown."""
    if not tagged:
        return "float", 4 * elements
    tag = file.read(4)
    if len(tag) < 4:
        return "float", 4 + 4 * elements
    kind, size = TAGS.get(struct.unpack("<I", tag)[0], ("", 1))
    return kind, 4 + -(-size * elements // 4) * 4


def _blocks(layer: Layer) -> list[Block] | str:
    """Return the blocks of weights of a layer, or the reason why they are unknown."""
    if layer.kind in WITHOUT_WEIGHTS:
        return []
    if layer.kind not in WITH_WEIGHTS:
        return f"its type {layer.kind[:60]} is not one that ncnn's weights are known for"
    if any(math.isnan(value) for key, value in layer.params.items() if key in SIZE_KEYS):
        return "one of its sizes is not a number"
    blocks = list(WITH_WEIGHTS[layer.kind](layer.params))
    if any(not 0 < elements <= MOST_ELEMENTS for elements, _ in blocks):
        return "the number of its weights is not possible"
    return blocks


def _get(params: Params, key: int, default: int = 0) -> int:
    value = params.get(key, default)
    return int(value) if math.isfinite(value) else -1


def _convolution(params: Params) -> Iterator[Block]:
    outputs, weights, scale = _get(params, 0), _get(params, 6), _get(params, 8)
    if _get(params, 19):  # weights that come from another layer
        return
    taps = _get(params, 1) * _get(params, 11, _get(params, 1))
    per_output = outputs * taps
    yield weights if per_output > 0 and weights % per_output == 0 else -1, True
    if _get(params, 5):
        yield outputs, False
    if scale:
        yield outputs, False
        yield 1, False
    if scale > 100:
        yield 1, False


def _depthwise(params: Params) -> Iterator[Block]:
    scale = _get(params, 8)
    yield from _convolution({**params, 8: 0})
    if scale % 100 in (1, 2):
        yield (_get(params, 7, 1) if scale % 100 == 1 else 1), False
        yield 1, False
    if scale > 100:
        yield 1, False


def _deconvolution(params: Params) -> Iterator[Block]:
    if not _get(params, 28):
        yield _get(params, 6), True
        if _get(params, 5):
            yield _get(params, 0), False


def _inner_product(params: Params) -> Iterator[Block]:
    outputs, weights = _get(params, 0), _get(params, 2)
    yield weights if outputs > 0 and weights % outputs == 0 else -1, True
    if _get(params, 1):
        yield outputs, False
    if _get(params, 8):
        yield outputs, False
        yield 1, False


def _gemm(params: Params) -> Iterator[Block]:
    rows, columns, shared = (_get(params, key) for key in (7, 8, 9))
    if _get(params, 18):  # quantized: several layouts, none of them from our exporter
        yield -1, True
    if _get(params, 4):
        yield rows * shared, True
    if _get(params, 5):
        yield columns * shared, True
    if _get(params, 6) and (kind := _get(params, 10)) != -1:
        yield {0: 1, 1: rows, 2: rows, 3: rows * columns, 4: columns}.get(kind, -1), True


def _attention(params: Params) -> Iterator[Block]:
    width, weights = _get(params, 0), _get(params, 2)
    if width <= 0 or weights % width or _get(params, 18):
        yield -1, True
        return
    keys, values = _get(params, 3, width), _get(params, 4, width)
    for columns in (weights // width, keys, values):
        yield width * columns, True
        yield width, False
    yield weights, True
    yield weights // width, False


def _memory(params: Params) -> Iterator[Block]:
    sizes = [_get(params, key) for key in (0, 1, 11, 2)]
    yield math.prod(size for size in sizes if size), _get(params, 21, 1) == 0


def _embed(params: Params) -> Iterator[Block]:
    yield _get(params, 3), True
    if _get(params, 2):
        yield _get(params, 0), False
    if _get(params, 18):
        yield 1, False


def _vectors(
    count: int, size_key: int, flag_key: int | None = None, default: int = 1
) -> Callable[[Params], Iterator[Block]]:
    """Return a layout of `count` vectors of the size at `size_key`; none if the number at `flag_key` is 0."""

    def layout(params: Params) -> Iterator[Block]:
        if flag_key is None or _get(params, flag_key, default):
            yield from [(_get(params, size_key), False)] * count

    return layout


def _scale(params: Params) -> Iterator[Block]:
    if _get(params, 0) != -233:  # the scale comes from another layer
        yield from [(_get(params, 0), False)] * (2 if _get(params, 1) else 1)


def _padding(params: Params) -> Iterator[Block]:
    if _get(params, 6):
        yield _get(params, 6), False


def _requantize(params: Params) -> Iterator[Block]:
    for key in (0, 1, 2):
        if _get(params, key, 0 if key == 2 else 1):
            yield _get(params, key, 1), False


WITH_WEIGHTS: dict[str, Callable[[Params], Iterator[Block]]] = {
    "Convolution": _convolution, "Convolution1D": _convolution, "ConvolutionDepthWise": _depthwise,
    "Deconvolution": _deconvolution, "DeconvolutionDepthWise": _deconvolution,
    "InnerProduct": _inner_product, "Gemm": _gemm, "MultiHeadAttention": _attention,
    "MemoryData": _memory, "Embed": _embed, "Scale": _scale, "Padding": _padding,
    "BatchNorm": _vectors(4, 0), "Bias": _vectors(1, 0), "PReLU": _vectors(1, 0),
    "LayerNorm": _vectors(2, 0, 2), "InstanceNorm": _vectors(2, 0, 2), "RMSNorm": _vectors(1, 0, 2),
    "GroupNorm": _vectors(2, 1, 3), "Quantize": _vectors(1, 0), "Normalize": _vectors(1, 3), "Requantize": _requantize,
}  # fmt: skip
SIZE_KEYS = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 19, 21, 28})
WITHOUT_WEIGHTS = frozenset({
    "AbsVal", "BinaryOp", "BNLL", "Cast", "CELU", "Clip", "Concat", "Crop", "DeepCopy", "Dropout", "Eltwise", "ELU",
    "Erf", "ExpandDims", "Flatten", "Flip", "GELU", "GLU", "HardSigmoid", "HardSwish", "Input", "Interp", "LRN", "Log",
    "MatMul", "Mish", "Noop", "Packing", "Permute", "PixelShuffle", "Pooling", "Pooling1D", "Power", "ReLU",
    "Reduction", "Reorg", "Reshape", "SDPA", "SELU", "Shrink", "ShuffleChannel", "Sigmoid", "Slice", "Softmax",
    "Softplus", "Split", "Squeeze", "Swish", "TanH", "Threshold", "Tile", "UnaryOp", "Unfold", "Exp",
})  # fmt: skip

"""List the faults that the validation must detect, as they occur in practice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tcs_edge.errors import TcsEdgeError
from tcs_edge.selftest import graphs
from tcs_edge.selftest.specimen import Specimen

Where = Literal["model", "script", "int8"]
MAX_OPSET = 21  # highest opset of the targets' runtimes
SCRIPT = "edge_preprocess.py"


@dataclass(frozen=True)
class Fault:
    """One kind of damage to an export.

    Attributes:
        where: in an exported model, in the device's script for preprocessing, or in an int8 model.
        damage: damages a copy of the exports, which has the script beside them.
        silent: True if no output changes, so that only the recorded hashes can detect it.
    """

    name: str
    where: Where
    damage: Callable[[Path, Specimen], None]
    silent: bool = False


def _onnx(edit: graphs.Edit) -> Callable[[Path, Specimen], None]:
    return lambda exports, _: graphs.edit_onnx(exports / "model.onnx", edit)


def _int8(exports: Path, _: Specimen) -> None:
    graphs.edit_onnx(exports / "model.int8.onnx", graphs.double_a_scale)


def _normalize_again(exports: Path, specimen: Specimen) -> None:
    steps = specimen.preprocess
    graphs.edit_onnx(exports / "model.onnx", graphs.normalize_again(steps.mean, steps.std))


def _cut_weights(exports: Path, _: Specimen) -> None:
    weights = exports / "openvino" / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-64])


def _stale_weights(exports: Path, _: Specimen) -> None:
    graphs.use_stale_weights(exports / "model.onnx")


def _script(old: str, new: str) -> Callable[[Path, Specimen], None]:
    def damage(exports: Path, _: Specimen) -> None:
        path = exports / SCRIPT
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise TcsEdgeError(f"the self-test did not find {old!r} in {SCRIPT}. Adapt the fault to the script.")
        path.write_text(text.replace(old, new), encoding="utf-8")

    return damage


PIXELS = "np.asarray(crop(image, steps))"
DIVISION = "planes /= std\n"
CROP = "left, top = (width - size) // 2, "

FAULTS = (
    Fault("one weight bit, exponent", "model", _onnx(graphs.flip_bit(30))),
    Fault("one weight bit, lowest of the mantissa", "model", _onnx(graphs.flip_bit(0)), silent=True),
    Fault("swapped labels", "model", _onnx(graphs.swap_labels)),
    Fault("swapped outputs", "model", _onnx(graphs.swap_outputs)),
    Fault("BGR for RGB, in the graph", "model", _onnx(graphs.reverse_channels)),
    Fault("BGR for RGB, on the device", "script", _script(PIXELS, f"{PIXELS}[..., ::-1]")),
    Fault("normalized twice, in the graph", "model", _normalize_again),
    Fault("normalized twice, on the device", "script", _script(DIVISION, "planes = (planes / std - mean) / std\n")),
    Fault("half of one layer's scale, by 10 %", "model", _onnx(graphs.scale_layer(1.1))),
    Fault("wrong opset", "model", _onnx(graphs.set_opset(MAX_OPSET + 1))),
    Fault("truncated .bin", "model", _cut_weights),
    Fault("stale external data", "model", _stale_weights),
    Fault("baked batch", "model", _onnx(graphs.bake_batch)),
    Fault("transposed input", "model", _onnx(graphs.transpose_input)),
    Fault("clipped input", "model", _onnx(graphs.clip_input)),
    Fault("quantization scale off by 2", "int8", _int8),
    Fault("off-by-one crop", "script", _script(CROP, "left, top = (width - size) // 2 + 1, ")),
)  # fmt: skip

# With an embedding; the logits stay right, so that only its own checks can detect these.
EMBEDDING_FAULTS = (
    Fault("embedding: swapped coordinates", "model", _onnx(graphs.swap_coordinates)),
    Fault("embedding: one coordinate's scale, by 10 %", "model", _onnx(graphs.scale_coordinate(1.1))),
    Fault("embedding: cut below 0", "model", _onnx(graphs.cut_embedding)),
    Fault("embedding: NaN", "model", _onnx(graphs.spoil_embedding)),
    Fault("embedding: left out", "model", _onnx(graphs.drop_embedding)),
    Fault("embedding: names of the outputs exchanged", "model", _onnx(graphs.exchange_outputs)),
)

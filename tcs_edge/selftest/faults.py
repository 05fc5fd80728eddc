"""The faults that the proof has to catch, each as it happens in practice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tcs_edge.errors import TcsEdgeError
from tcs_edge.selftest import graphs
from tcs_edge.selftest.specimen import Specimen

Where = Literal["model", "script", "int8"]
MAX_OPSET = 21  # what the targets' runtimes take
SCRIPT = "predict.py"


@dataclass(frozen=True)
class Fault:
    """A way to break an artifact.

    Attributes:
        where: in an exported model, in the device's script that prepares pictures, or in an int8 model.
        damage: does it to a copy of the exports, the scripts beside them.
        silent: no answer changes, so only the recorded hashes can tell.
    """

    name: str
    where: Where
    damage: Callable[[Path, Specimen], None]
    silent: bool = False


def _onnx(edit: graphs.Edit) -> Callable[[Path, Specimen], None]:
    return lambda exports, _: graphs.edit_onnx(exports / "model.onnx", edit)


def _int8(exports: Path, _: Specimen) -> None:
    graphs.edit_onnx(exports / "model.int8.onnx", graphs.double_a_scale)


def _normalise_again(exports: Path, specimen: Specimen) -> None:
    steps = specimen.preprocess
    graphs.edit_onnx(exports / "model.onnx", graphs.normalise_again(steps.mean, steps.std))


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
            raise TcsEdgeError(f"the self-test looks for {old!r} in {SCRIPT}, which holds it no more. Adapt the fault.")
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
    Fault("normalized twice, in the graph", "model", _normalise_again),
    Fault("normalized twice, on the device", "script", _script(DIVISION, "planes = (planes / std - mean) / std\n")),
    Fault("one layer's scale, by 10 %", "model", _onnx(graphs.scale_layer(1.1))),
    Fault("wrong opset", "model", _onnx(graphs.set_opset(MAX_OPSET + 1))),
    Fault("truncated .bin", "model", _cut_weights),
    Fault("stale external data", "model", _stale_weights),
    Fault("baked batch", "model", _onnx(graphs.bake_batch)),
    Fault("transposed input", "model", _onnx(graphs.transpose_input)),
    Fault("clipped input", "model", _onnx(graphs.clip_input)),
    Fault("quantization scale off by 2", "int8", _int8),
    Fault("off-by-one crop", "script", _script(CROP, "left, top = (width - size) // 2 + 1, ")),
)  # fmt: skip

"""List the faults of ncnn models that the validation must detect.

Half of them come from the real converter and a faulty graph, the others damage ncnn's own files.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import numpy_helper

from tcs_edge.errors import TcsEdgeError
from tcs_edge.runtimes.ncnn.export import export_ncnn
from tcs_edge.runtimes.ncnn_file import read_param, read_weights
from tcs_edge.selftest import graphs
from tcs_edge.selftest.beside import Damage, change_file, set_wrong_mean, swap_labels
from tcs_edge.selftest.faults import Fault
from tcs_edge.selftest.specimen import Specimen
from tcs_edge.specs.artifacts import ncnn_file

logger = logging.getLogger(__name__)

PARAM = ncnn_file("fp32")
TAG_BYTES = 4


def add_ncnn(specimen: Specimen) -> bool:
    """Write an ncnn model beside the good exports; return False if ncnn cannot hold the student."""
    try:
        export_ncnn(specimen.exports / "model.onnx", specimen.exports / PARAM)
    except TcsEdgeError as error:
        logger.info(f"{specimen.name}: skipped ncnn: {error}")
        return False
    return True


def _converted(edit: graphs.Edit) -> Damage:
    """Return a fault that converts an edited copy of the ONNX file."""

    def damage(exports: Path, _: Specimen) -> None:
        with TemporaryDirectory() as folder:
            source = Path(folder) / "model.onnx"
            shutil.copyfile(exports / "model.onnx", source)
            graphs.edit_onnx(source, edit)
            export_ncnn(source, exports / PARAM)

    return damage


def _normalize_again(exports: Path, specimen: Specimen) -> None:
    _converted(graphs.normalize_again(specimen.preprocess.mean, specimen.preprocess.std))(exports, specimen)


def _half_precision(exports: Path, _: Specimen) -> None:
    """Put float16 weights in the place of the float32 ones, as a converter's default does."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / PARAM.name
        export_ncnn(exports / "model.onnx", made, "fp16")
        for suffix in (".param", ".bin"):
            shutil.copyfile(made.with_suffix(suffix), (exports / PARAM).with_suffix(suffix))


def _swap_color_weights(model: onnx.ModelProto) -> None:
    """Swap red and blue in the weights of the first layer, because ncnn lacks the operator that swaps channels."""
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    _edit_weights(model, first.input[1], lambda values: values[:, ::-1])


def _swap_output_weights(model: onnx.ModelProto) -> None:
    """Swap the first two logits, in the weights and biases of the last layer."""
    last = next(node for node in reversed(model.graph.node) if node.op_type in ("Gemm", "MatMul"))
    for name in last.input[1:]:
        _edit_weights(model, name, _first_two_swapped)


def _first_two_swapped(values: np.ndarray) -> np.ndarray:
    classes = min(values.shape)
    axis = values.shape.index(classes)
    return np.take(values, [1, 0, *range(2, classes)], axis=axis)


def _edit_weights(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(one for one in model.graph.initializer if one.name == name)
    values = np.ascontiguousarray(change(numpy_helper.to_array(tensor)))
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def _bin(change: Callable[[bytes], bytes]) -> Damage:
    return change_file(PARAM.with_suffix(".bin"), change)


def _param(change: Callable[[str], str]) -> Damage:
    return change_file(PARAM, lambda content: change(content.decode()).encode())


def _drop_last_layer(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:-1])


def _clip_input(text: str) -> str:
    """Clip the input at four standard deviations; pnnx makes a graph of such an ONNX file on which ncnn crashes."""
    magic, counts, *layers = text.splitlines()
    total, blobs = map(int, counts.split())
    source = layers[0].split()[4]
    clip = f"Clip clip_in 1 1 {source} clipped 0=-{graphs.BEYOND_PHOTOGRAPHS} 1={graphs.BEYOND_PHOTOGRAPHS}"
    rest = [" ".join("clipped" if word == source else word for word in line.split()) for line in layers[1:]]
    return "\n".join([magic, f"{total + 1} {blobs + 1}", layers[0], clip, *rest]) + "\n"


def _stale_weights(exports: Path, _: Specimen) -> None:
    """Scale all weights of the largest layer, as weights of an earlier training differ."""
    path = (exports / PARAM).with_suffix(".bin")
    assert not read_weights(path, read_param(exports / PARAM)).problem
    content = np.frombuffer(path.read_bytes(), dtype=np.float32).copy()
    content[content != 0] *= np.float32(0.9)  # the tags of float32 weights are zeros
    path.write_bytes(content.tobytes())


def _fault(name: str, damage: Damage, silent: bool = False) -> Fault:
    return Fault(f"ncnn: {name}", "model", damage, silent)


NCNN_FAULTS = (
    _fault("one weight bit, exponent", _converted(graphs.flip_bit(30))),
    _fault("one weight bit, lowest of the mantissa", _converted(graphs.flip_bit(0)), silent=True),
    _fault("half of one layer's scale, by 10 %", _converted(graphs.scale_layer(1.1))),
    _fault("BGR for RGB", _converted(_swap_color_weights)),
    _fault("swapped outputs", _converted(_swap_output_weights)),
    _fault("normalized twice", _normalize_again),
    _fault("transposed input", _converted(graphs.transpose_input)),
    _fault("clipped input", _param(_clip_input)),
    _fault("float16 for float32", _half_precision),
    _fault("stale .bin", _stale_weights),
    _fault("truncated .bin", _bin(lambda content: content[:-64])),
    _fault("bytes behind the weights", _bin(lambda content: content + bytes(64))),
    _fault("truncated .param", _param(_drop_last_layer)),
    _fault("unknown layer", _param(lambda text: text.replace("\nInnerProduct", "\nTensor.matmul"))),
    _fault("swapped labels", swap_labels(PARAM)),
    _fault("wrong mean in the metadata", set_wrong_mean(PARAM)),
)

"""An ONNX file as data, before any runtime sees it: its operators, its tensors, the files it points to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from tcs_edge.errors import DataError, reason_of

# What every build of onnxruntime brings; com.microsoft are its own contributed operators.
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model at `path`, without the values of external data.

    Raises:
        DataError: it is missing, damaged, or holds no graph.
    """
    if not path.is_file():
        raise DataError(f"no such ONNX file: {path}")
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise DataError(f"{path} cannot be read as ONNX: {reason_of(error)}. Export it again.") from None
    if not model.ir_version or not model.graph.node:
        raise DataError(f"{path} is no ONNX model: there is no graph in it. Export it again.")
    return model


def require_standard(path: Path, model: onnx.ModelProto) -> None:
    """Fail unless any onnxruntime can load the model from its own folder.

    Raises:
        DataError: operators of another domain, or external data that is missing or lies elsewhere.
    """
    own = {function.domain for function in model.functions}
    foreign = {(node.domain, node.op_type) for node in all_nodes(model)}
    named = sorted(f"{domain}:{kind}" for domain, kind in foreign if domain not in KNOWN_DOMAINS | own)
    if named:
        raise DataError(
            f"{path} uses custom operators that onnxruntime does not bring: {', '.join(named[:3])}. "
            "Export with standard operators."
        )
    for file in external_files(path, model):
        if not file.is_file():
            raise DataError(f"{path}: its external data {file.name} is missing. Copy it beside the model.")


def default_opset(model: onnx.ModelProto) -> int | None:
    """The version of the standard operators that the model asks for."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)


def external_files(path: Path, model: onnx.ModelProto) -> list[Path]:
    """The files that hold tensors of the model at `path`, sorted, whether they are there or not.

    Raises:
        DataError: one that is not below the model's own folder.
    """
    return sorted({_external_file(path, tensor) for tensor in all_tensors(model) if is_external(tensor)})


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's values lie in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _external_file(path: Path, tensor: onnx.TensorProto) -> Path:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    file = path.parent / location
    if not location or not file.resolve().is_relative_to(path.parent.resolve()):
        raise DataError(f"{path}: external data must lie beside the model, not at {location!r}.")
    return file


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of the model, those of inner graphs and of its own functions included."""
    yield from _inner_nodes(model.graph.node)
    for function in model.functions:
        yield from _inner_nodes(function.node)


def _inner_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in _graphs(node):
            yield from _inner_nodes(graph.node)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in the model: initializers, constants, and those of inner graphs and functions."""
    yield from _initializers(model.graph)
    for node in all_nodes(model):
        for graph in _graphs(node):
            yield from _initializers(graph)
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor.values
            yield from attribute.tensors


def _initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from (sparse.values for sparse in graph.sparse_initializer)

"""Read ONNX files without a runtime: operators, tensors and external data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from tcs_edge.errors import DataError, reason_of
from tcs_edge.utils.reading import require_content

# Included in every build of onnxruntime; com.microsoft are its own contributed operators.
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read the model at `path`, without the values of external data.

    Raises:
        DataError: the file is missing, damaged, or has no graph.
    """
    if not path.is_file():
        raise DataError(f"no such ONNX file: {path}. Check the path.")
    require_content(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise DataError(f"{path} cannot be read as ONNX: {reason_of(error)}. Export it again.") from None
    if not model.ir_version or not model.graph.node:
        raise DataError(f"{path} is not an ONNX model: it has no graph. Export it again.")
    if not _is_text(model):
        raise DataError(f"{path} cannot be read as ONNX: it has text that is not UTF-8. Export it again.")
    return model


def _is_text(message: Any) -> bool:
    """Return True if all names in a message are UTF-8; the library returns other names as bytes."""
    for field, value in message.ListFields():
        several = value if field.is_repeated else (value,)
        if field.message_type is not None:
            if not all(map(_is_text, several)):
                return False
        elif field.type == field.TYPE_STRING and any(isinstance(text, bytes) for text in several):
            return False
    return True


def require_standard(path: Path, model: onnx.ModelProto) -> None:
    """Check that any onnxruntime can load the model from its own folder.

    Raises:
        DataError: operators of another domain, or external data that is missing or outside the folder.
    """
    own = {function.domain for function in model.functions}
    foreign = {(node.domain, node.op_type) for node in all_nodes(model)}
    named = sorted(f"{domain}:{kind}" for domain, kind in foreign if domain not in KNOWN_DOMAINS | own)
    if named:
        raise DataError(
            f"{path} uses custom operators that onnxruntime does not have: {', '.join(named[:3])}. "
            "Export with standard operators."
        )
    for file in external_files(path, model):
        if not file.is_file():
            raise DataError(f"{path}: its external data {file.name} is missing. Copy it beside the model.")
        require_content(file)


def default_opset(model: onnx.ModelProto) -> int | None:
    """Return the model's opset: the version of the standard operators."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)


def external_files(path: Path, model: onnx.ModelProto) -> list[Path]:
    """Return the sorted paths of the model's external data, existing or not.

    Raises:
        DataError: a path outside the model's folder.
    """
    return sorted({external_file(path, tensor) for tensor in all_tensors(model) if is_external(tensor)})


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return True if the tensor's values are in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def external_file(path: Path, tensor: onnx.TensorProto) -> Path:
    """Return the path of the tensor's external data, existing or not.

    Raises:
        DataError: a path outside the folder of the model at `path`.
    """
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    file = path.parent / location
    try:
        inside = file.resolve().is_relative_to(path.parent.resolve())
        file.is_file()  # raises for a name that the system refuses
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not location or not inside:
        raise DataError(f"{path}: external data must be beside the model, not at {location[:60]!r}. Export it again.")
    return file


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes of the model, including inner graphs and the model's functions."""
    yield from nodes_within(model.graph.node)
    for function in model.functions:
        yield from nodes_within(function.node)


def nodes_within(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes and the nodes of their inner graphs."""
    for node in nodes:
        yield node
        for graph in _graphs(node):
            yield from nodes_within(graph.node)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield the model's graph and all inner graphs, including those of the model's functions."""
    yield model.graph
    for node in all_nodes(model):
        yield from _graphs(node)


def all_attributes(model: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    """Yield the attributes of all nodes, and the default attributes of the model's functions."""
    for node in all_nodes(model):
        yield from node.attribute
    for function in model.functions:
        yield from function.attribute_proto


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all stored tensors, dense and sparse: initializers and constants, including inner graphs and functions."""
    for graph in all_graphs(model):
        yield from graph.initializer
    for attribute in all_attributes(model):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
    for sparse in all_sparse_tensors(model):
        yield from (sparse.values, sparse.indices)


def all_sparse_tensors(model: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    """Yield all sparse tensors: initializers and constants, including inner graphs and functions."""
    for graph in all_graphs(model):
        yield from graph.sparse_initializer
    for attribute in all_attributes(model):
        if attribute.HasField("sparse_tensor"):
            yield attribute.sparse_tensor
        yield from attribute.sparse_tensors

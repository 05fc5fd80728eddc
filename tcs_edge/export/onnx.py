"""Export the trained model as one ONNX file."""

from __future__ import annotations

import contextlib
import copy
import io
import linecache
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from tcs_edge.errors import DataError, RequirementMissed, UsageError, reason_of
from tcs_edge.export.attention import cut_before_heads
from tcs_edge.export.files import require_one_file, save_onnx
from tcs_edge.export.preprocess import require_labels
from tcs_edge.runtimes.base import EMBEDDING, LOGITS
from tcs_edge.runtimes.metadata import build_metadata, set_onnx_metadata
from tcs_edge.utils.quiet import quiet
from tcs_edge.utils.version import __version__
from tcs_edge.utils.versions import PRODUCER

logger = logging.getLogger(__name__)

CHATTY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
INPUT = "image"
LOWEST_OPSET = 18  # asked for less, torch's exporter writes 18 and only warns
DEFAULT_OPSET = 18  # runs from onnxruntime 1.14 on, so the lowest is also the most portable
HIGHEST_OPSET = 24


def choose_opset(highest: int | None, asked: int | None = None) -> int:
    """Return the opset to export for a target that reads opsets up to `highest` (None: any).

    Args:
        asked: the requested opset; None selects the lowest.

    Raises:
        UsageError: the target reads no opset of the exporter, or not the requested one.
    """
    if highest is not None and highest < LOWEST_OPSET:
        raise UsageError(
            f"the target reads ONNX opset {highest} at most, but torch's exporter writes {LOWEST_OPSET} "
            "at least. Pin a newer runtime in the target, or deploy the OpenVINO export."
        )
    if asked is None:
        return DEFAULT_OPSET
    _require_opset(asked)
    if highest is not None and asked > highest:
        raise UsageError(f"opset {asked}: the target reads {highest} at most. Use {DEFAULT_OPSET}.")
    return asked


def export_onnx(
    model: torch.nn.Module,
    path: Path,
    img_size: int,
    *,
    labels: Sequence[str],
    preprocess: Mapping[str, Any],
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = False,
    embedding_size: int = 0,
) -> Path:
    """Write `model` (B, 3, S, S) -> (B, classes) as one ONNX file with input "image", output "logits".

    The batch is 1 unless `dynamic_batch`. The one file also holds the weights, and labels, preprocessing and
    versions as metadata. `model` does not change.

    Args:
        embedding_size: k of a model that returns logits and an embedding (B, k), which becomes the second output,
            "embedding"; 0 for a model of logits alone.

    Raises:
        UsageError: the exporter cannot write the opset or the model.
        DataError: the number of labels differs from the model's logits.
        RequirementMissed: the file has another opset or structure than requested, or is too large for one file.
    """
    _require_opset(opset)
    require_labels(labels)
    require_one_file(path.name, sum(tensor.nbytes for tensor in model.state_dict().values()))
    logger.info(f"exporting ONNX (opset {opset}, {'dynamic batch' if dynamic_batch else 'batch 1'})")
    sizes = {LOGITS: len(labels)} | ({EMBEDDING: embedding_size} if embedding_size else {})
    proto = traced(model, img_size, opset, dynamic_batch, list(sizes)).model_proto
    _require_promises(proto, opset, sizes, dynamic_batch)
    _forget_exporter(proto)
    set_onnx_metadata(proto, build_metadata(labels, preprocess))
    return save_onnx(proto, path)


def _require_opset(opset: int) -> None:
    if not LOWEST_OPSET <= opset <= HIGHEST_OPSET:
        raise UsageError(
            f"opset {opset}: torch's exporter writes {LOWEST_OPSET} to {HIGHEST_OPSET}. Use {DEFAULT_OPSET}."
        )


def traced(
    model: torch.nn.Module, img_size: int, opset: int, dynamic_batch: bool, outputs: list[str]
) -> torch.onnx.ONNXProgram:
    """Trace a copy of `model` on the CPU; return it as ONNX, and as the PyTorch program that was translated.

    Both graphs have the same names of values.

    Raises:
        UsageError: the exporter cannot write the model.
    """
    frozen = copy.deepcopy(model).cpu().eval()
    # torch specialises a dimension that is 1 in the example, so a dynamic batch is traced with 2.
    example = torch.zeros(2 if dynamic_batch else 1, 3, img_size, img_size)
    cut_before_heads(frozen, example)
    dynamic = ({0: torch.export.Dim("batch")},) if dynamic_batch else None
    try:
        with quiet(*CHATTY), contextlib.redirect_stdout(io.StringIO()), torch.no_grad(), _traces_forgotten():
            return torch.onnx.export(
                frozen,
                (example,),
                input_names=[INPUT],
                output_names=outputs,
                opset_version=opset,
                dynamic_shapes=dynamic,
                dynamo=True,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise UsageError(f"torch cannot export this model: {reason_of(error)} Choose another student.") from error


@contextlib.contextmanager
def _traces_forgotten() -> Iterator[None]:
    """Remove the source texts that torch keeps of every graph that it traces in the block: 0.25 MB per export."""
    kept = getattr(getattr(torch.fx.graph_module, "_loader", None), "eval_cache", {})
    before = set(kept)
    try:
        yield
    finally:
        for name in set(kept) - before:
            del kept[name]
            linecache.cache.pop(name, None)


def _require_promises(proto: onnx.ModelProto, opset: int, sizes: dict[str, int], dynamic_batch: bool) -> None:
    opsets = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    if opsets != {"ai.onnx": opset}:
        raise RequirementMissed(f"the exporter wrote opset {opsets} instead of {opset}.")
    names = [value.name for value in (*proto.graph.input, *proto.graph.output)]
    if names != [INPUT, *sizes]:
        raise RequirementMissed(f"the exporter wrote inputs and outputs {names}, not {[INPUT, *sizes]}.")
    for output in proto.graph.output:
        batch, values = output.type.tensor_type.shape.dim
        if values.dim_value != sizes[output.name]:
            if output.name == LOGITS:
                raise DataError(f"{sizes[LOGITS]} class names, but the model has {values.dim_value} logits.")
            raise RequirementMissed(f"the embedding has {values.dim_value} values, not {sizes[output.name]}.")
        if bool(batch.dim_param) != dynamic_batch:
            raise RequirementMissed(f"the batch became {batch.dim_param or batch.dim_value!r} in the exported file.")


def _forget_exporter(proto: onnx.ModelProto) -> None:
    """Remove the exporter's stack traces: they hold paths of this machine and change with every run."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        del part.metadata_props[:]
    proto.producer_name, proto.producer_version = PRODUCER, __version__

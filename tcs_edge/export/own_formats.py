"""Export the model in the file formats that runtimes have beside ONNX."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import nn

from tcs_edge.runtimes.registry import runtimes_for
from tcs_edge.specs.artifacts import Precision, onnx_file


def export_own_formats(
    exports: Path, precision: Precision = "fp32", formats: Collection[str] = (), model: nn.Module | None = None
) -> None:
    """Convert the float32 ONNX file in `exports` for every runtime with a format of its own.

    Args:
        precision: "fp32" or "fp16", for the weights in the new files.
        formats: formats on request, such as "ncnn".
        model: the model in the ONNX file, for converters that read no ONNX: LiteRT's.

    Raises:
        DataError: the ONNX file is missing, damaged or not ours.
        MissingError: the disk is full, the folder cannot be written, or a converter is not installed.
        UsageError: a converter cannot convert the model.
        RequirementMissed: a runtime cannot read back the file that it wrote.
    """
    for runtime in runtimes_for(formats):
        if runtime.own_format:
            path = exports / runtime.file(precision)
            runtime.own_format.write(exports / onnx_file("fp32"), path, precision, model)

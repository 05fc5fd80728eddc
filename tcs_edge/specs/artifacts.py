"""The model files of a run: what they are called, and what is in them.

export/model.onnx            fp32, always there: the others are made from it and measured beside it
export/model.fp16.onnx       fp16 weights
export/model.int8.onnx       int8 weights and activations
export/model[.fp16|.int8].pixels.onnx   the same behind its own preprocessing: uint8 picture in
export/openvino/model[.fp16|.int8].xml  the same as OpenVINO IR, each with a .bin
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def onnx_file(precision: Precision) -> PurePosixPath:
    """Path of the ONNX file, relative to the export folder."""
    return PurePosixPath(f"model{_infix(precision)}.onnx")


def pixels_file(precision: Precision) -> PurePosixPath:
    """Path of the ONNX file that takes uint8 pictures, relative to the export folder."""
    return PurePosixPath(f"model{_infix(precision)}.pixels.onnx")


def openvino_file(precision: Precision) -> PurePosixPath:
    """Path of the OpenVINO IR's .xml, relative to the export folder; its .bin lies beside it."""
    return PurePosixPath("openvino") / f"model{_infix(precision)}.xml"


def with_fp32(precisions: Iterable[Precision]) -> tuple[Precision, ...]:
    """`precisions` in their fixed order, each once, fp32 first even where nobody asked for it."""
    wanted = {"fp32", *precisions}
    return tuple(precision for precision in PRECISIONS if precision in wanted)


def runner_name(runtime: str, precision: Precision) -> str:
    """What results are filed under: "onnxruntime", "onnxruntime-int8"."""
    return runtime if precision == "fp32" else f"{runtime}-{precision}"


def _infix(precision: Precision) -> str:
    return "" if precision == "fp32" else f".{precision}"


def is_released(path: Path, precision: Precision) -> bool:
    """Whether there has to be a file: an int8 that loses too much is not written, and a check of its own says so."""
    return precision != "int8" or path.exists()

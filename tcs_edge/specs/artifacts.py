"""Names and contents of the model files of a run.

export/model.onnx            fp32, always written: the others are made from it and compared with it
export/model.fp16.onnx       fp16 weights
export/model.int8.onnx       int8 weights and activations
export/model[.fp16|.int8].pixels.onnx   the same with built-in preprocessing of a uint8 image
export/openvino/model[.fp16|.int8].xml  the same as OpenVINO IR, each with a .bin
export/ncnn/model[.fp16].param          on request: the same for ncnn, each with a .bin and a .json
export/litert/model[.fp16].tflite       on request: the same for LiteRT, each with a .json
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

Precision = Literal["fp32", "fp16", "int8"]
Format = Literal["onnx", "openvino", "ncnn", "litert"]
CONFIDENCE_FILE = "confidence.json"
SIDECARS = ("labels.txt", "preprocess.json", CONFIDENCE_FILE)  # beside every model, for programs that run it
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
FORMATS: tuple[Format, ...] = ("onnx", "openvino", "ncnn", "litert")
# Suffixes of the files that belong to a model's main file, by the suffix of that file.
BESIDE: dict[str, tuple[str, ...]] = {
    ".onnx": (), ".xml": (".bin",), ".param": (".bin", ".json"), ".tflite": (".json",),
}  # fmt: skip
ALWAYS_EXPORTED: tuple[Format, ...] = ("onnx", "openvino")


def onnx_file(precision: Precision) -> PurePosixPath:
    """Path of the ONNX file, relative to the export folder."""
    return PurePosixPath(f"model{_infix(precision)}.onnx")


def pixels_file(precision: Precision) -> PurePosixPath:
    """Path of the ONNX file for uint8 images, relative to the export folder."""
    return PurePosixPath(f"model{_infix(precision)}.pixels.onnx")


def openvino_file(precision: Precision) -> PurePosixPath:
    """Path of the .xml of the OpenVINO IR, relative to the export folder; its .bin is beside it."""
    return PurePosixPath("openvino") / f"model{_infix(precision)}.xml"


def ncnn_file(precision: Precision) -> PurePosixPath:
    """Path of the .param of the ncnn model, relative to the export folder; its .bin and .json are beside it."""
    return PurePosixPath("ncnn") / f"model{_infix(precision)}.param"


def litert_file(precision: Precision) -> PurePosixPath:
    """Path of the .tflite of the LiteRT model, relative to the export folder; its .json is beside it."""
    return PurePosixPath("litert") / f"model{_infix(precision)}.tflite"


def with_standard(formats: Iterable[Format]) -> tuple[Format, ...]:
    """Return `formats` in their fixed order without duplicates, always with ONNX and OpenVINO."""
    wanted = {*ALWAYS_EXPORTED, *formats}
    return tuple(name for name in FORMATS if name in wanted)


def with_fp32(precisions: Iterable[Precision]) -> tuple[Precision, ...]:
    """Return `precisions` in their fixed order without duplicates, always with fp32 first."""
    wanted = {"fp32", *precisions}
    return tuple(precision for precision in PRECISIONS if precision in wanted)


def runner_name(runtime: str, precision: Precision) -> str:
    """Name of a runtime and precision in results: "onnxruntime", "onnxruntime-int8"."""
    return runtime if precision == "fp32" else f"{runtime}-{precision}"


def model_name(path: str) -> str:
    """Name of a model file in checks: "onnx", "onnx-pixels-fp16", "openvino-int8"; a file of another name keeps it.

    Args:
        path: relative to the export folder, with forward slashes.
    """
    formats = {
        "onnx": onnx_file, "onnx-pixels": pixels_file, "openvino": openvino_file, "ncnn": ncnn_file,
        "litert": litert_file,
    }  # fmt: skip
    for name, file in formats.items():
        for precision in PRECISIONS:
            if path == str(file(precision)):
                return runner_name(name, precision)
    return path


def is_deployed(name: str, precision: Precision) -> bool:
    """Return True if a model, by its name in checks, must meet the limits where `precision` is deployed.

    Files in fp32 are the largest, so every file must meet the limits there.
    """
    return precision == "fp32" or name.endswith(f"-{precision}")


def _infix(precision: Precision) -> str:
    return "" if precision == "fp32" else f".{precision}"


def is_released(path: Path, precision: Precision) -> bool:
    """Return True if the file must exist; an int8 file with too much accuracy loss is not written."""
    return precision != "int8" or path.exists()

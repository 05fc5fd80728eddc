"""OpenVINO on the CPU, in float32 or in the arithmetic that it chooses by itself."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tcs_edge.errors import DataError, reason_of
from tcs_edge.runtimes.base import (
    EMBEDDING,
    LOGITS,
    ClosingRunner,
    coarsest,
    find_outputs,
    run_both,
    static_sides,
    stored_labels,
    stored_precision,
    stored_size,
)
from tcs_edge.runtimes.openvino.export import RT_INFO_GROUP
from tcs_edge.runtimes.openvino.library import core
from tcs_edge.specs.artifacts import runner_name

if TYPE_CHECKING:
    import openvino as ov

Arithmetic = Literal["f32", "bf16", "device"]


class OpenVinoRunner(ClosingRunner):
    """Runner of an IR (.xml with its .bin beside it), or of an ONNX file, with `threads` threads.

    Args:
        precision: "f32" tests the conversion alone. "device" leaves the choice to OpenVINO, as in the deployed
            model: bf16 or f16 if the CPU has it. "bf16" requests bf16, which a CPU with AVX-512 also emulates.
            `arithmetic` holds the result.

    Its name is "openvino", followed by the file's precision if that is not fp32, then by "-device" or "-bf16" if
    that was requested.

    Raises:
        DataError: a file is missing, truncated, or not an image classifier.
    """

    def __init__(self, path: Path, threads: int = 1, precision: Arithmetic = "f32") -> None:
        path = Path(path)
        model = _read(path)
        shape = [axis.get_length() if axis.is_static else None for axis in model.input(0).get_partial_shape()]
        batch, self._img_size = static_sides(shape, str(path))
        self._one_by_one = batch == 1
        self._logits, self._embedding = find_outputs(_output_names(model), str(path))
        self.labels = stored_labels(_rt_info(model, "labels"), _size(model, self._logits), str(path))
        self.embedding_size = 0 if self._embedding is None else stored_size(_size(model, self._embedding), str(path))
        stored = stored_precision(_rt_info(model, "precision"), str(path))
        self._compile = partial(_compile, path=path, threads=threads, precision=precision)
        # By batch size; None is the model as it is, for every size.
        self._compiled: dict[int | None, Any] = {None: self._compile(model)}
        self._by_size = model if batch is None and stored == "int8" and has_amx_int8() else None
        self.arithmetic = _precision_name(self._compiled[None])
        _require_honored(precision, self.arithmetic)
        self.precision = coarsest(stored, self.arithmetic)
        self.name = runner_name("openvino", stored) + ("" if precision == "f32" else f"-{precision}")

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits, float32 (B, classes), and the embedding, for float32 images (B, 3, S, S)."""
        return run_both(self._infer, images, self._img_size, self._one_by_one)

    def _infer(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        try:
            made = self._model_for(len(images))([images])
        except RuntimeError as error:
            raise DataError(f"openvino failed on a batch of {len(images)}: {reason_of(error)}") from error
        return made[self._logits], None if self._embedding is None else made[self._embedding]

    def _model_for(self, size: int) -> Any:
        """Return the compiled model for batches of `size`.

        On a CPU with AMX, OpenVINO up to 2026.4 ends the process on int8 with a dynamic batch
        (openvino#37577). There, the file is compiled again for each batch size.
        """
        if self._by_size is None:
            return self._compiled[None]
        if size not in self._compiled:
            fixed = self._by_size.clone()
            fixed.reshape([size, *fixed.input(0).get_partial_shape()[1:]])
            self._compiled[size] = self._compile(fixed)
        return self._compiled[size]

    def close(self) -> None:
        """Free the compiled models."""
        self._compiled = {}


@cache
def has_amx_int8() -> bool:
    """Return True if Linux lists matrix instructions for 8-bit numbers (AMX) for this CPU."""
    facts = Path("/proc/cpuinfo")
    return facts.is_file() and "amx_int8" in facts.read_text(encoding="ascii", errors="replace")


def _read(path: Path) -> ov.Model:
    for part in (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,):
        if not part.is_file():
            raise DataError(f"no such OpenVINO file: {part} (an IR is an .xml and a .bin). Export again.")
    try:
        model = core().read_model(path)
    except RuntimeError as error:
        raise DataError(f"{path} cannot be loaded by openvino: {reason_of(error)} Export again.") from error
    if len(model.inputs) != 1:
        raise DataError(f"{path}: {len(model.inputs)} inputs. A classifier has one.")
    return model


def _compile(model: ov.Model, path: Path, threads: int, precision: Arithmetic) -> ov.CompiledModel:
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # OpenVINO pins threads to cores by itself, which serializes two processes on the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    if precision != "device":
        config["INFERENCE_PRECISION_HINT"] = precision
    try:
        return core().compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise DataError(f"{path} cannot be compiled by openvino: {reason_of(error)} Export again.") from error


def _precision_name(compiled: ov.CompiledModel) -> str:
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())


def _require_honored(asked: Arithmetic, came: str) -> None:
    if asked not in ("device", came):
        raise DataError(f"openvino runs {came} instead of {asked} on this CPU.")


def _output_names(model: ov.Model) -> list[str]:
    """Return a name per output: "logits" or "embedding" if it has that, else its first one."""
    names = [output.get_names() for output in model.outputs]
    return [next((known for known in (LOGITS, EMBEDDING) if known in own), min(own, default="")) for own in names]


def _size(model: ov.Model, output: int) -> int | None:
    axis = model.output(output).get_partial_shape()[-1]
    return axis.get_length() if axis.is_static else None


def _rt_info(model: ov.Model, key: str) -> str | None:
    path = [RT_INFO_GROUP, key]
    return str(model.get_rt_info(path).value) if model.has_rt_info(path) else None

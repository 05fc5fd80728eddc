"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tcs_edge.errors import DataError, reason_of
from tcs_edge.runtimes.base import (
    ClosingRunner,
    Runtime,
    coarsest,
    find_outputs,
    run_both,
    static_sides,
    stored_labels,
    stored_precision,
    stored_size,
)
from tcs_edge.runtimes.onnx_file import read_onnx, require_standard
from tcs_edge.specs.artifacts import runner_name
from tcs_edge.utils.telemetry import telemetry_off

FLOAT = "tensor(float)"
GPU_PROVIDER = "CUDAExecutionProvider"
SILENT_LOG = 4  # onnxruntime: fatal errors only; everything else arrives as an exception


class OrtRunner(ClosingRunner):
    """Runner of an ONNX file with `threads` threads.

    Its name is "onnxruntime", followed by the file's precision if that is not fp32.

    Raises:
        DataError: the file is missing, truncated, or not an image classifier.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session: Any = open_session(Path(path), threads)
        self._input = self._session.get_inputs()[0]
        shape = [axis if isinstance(axis, int) else None for axis in self._input.shape]
        batch, self._img_size = static_sides(shape, str(path))
        self._one_by_one = batch == 1
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._logits, self._embedding = find_outputs(self._outputs, str(path))
        sizes = [output.shape[-1] for output in self._session.get_outputs()]
        self.labels = stored_labels(metadata.get("labels"), sizes[self._logits], str(path))
        self.embedding_size = 0 if self._embedding is None else stored_size(sizes[self._embedding], str(path))
        stored = stored_precision(metadata.get("precision"), str(path))
        self.name, self.precision = runner_name("onnxruntime", stored), coarsest(stored, "f32")

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits, float32 (B, classes), and the embedding, for float32 images (B, 3, S, S)."""
        return run_both(self._infer, images, self._img_size, self._one_by_one)

    def _infer(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        try:
            made = self._session.run(self._outputs, {self._input.name: images})
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise DataError(f"onnxruntime failed on a batch of {len(images)}: {reason_of(error)}") from error
        return made[self._logits], None if self._embedding is None else made[self._embedding]

    def close(self) -> None:
        """Free the session."""
        self._session = None


def open_session(path: Path, threads: int, takes: str = FLOAT) -> Any:
    """Open a session with one input, of type `takes`, and the outputs of a classifier.

    Raises:
        DataError: the file is missing, truncated, or has other inputs or outputs.
    """
    session = load_session(path, threads)
    if len(session.get_inputs()) != 1:
        raise DataError(f"{path}: {len(session.get_inputs())} inputs. A classifier has one.")
    find_outputs([output.name for output in session.get_outputs()], str(path))
    if session.get_inputs()[0].type != takes:
        raise DataError(f"{path} takes {session.get_inputs()[0].type} instead of {takes}. Export again.")
    return session


def load_session(path: Path, threads: int, on_gpu: bool = False) -> Any:
    """Load an ONNX file with any inputs and outputs.

    Args:
        on_gpu: use the GPU if the installed onnxruntime can.

    Raises:
        DataError: the file is missing, truncated, or needs operators or files that are not there.
    """
    ort = _onnxruntime()
    ort.disable_telemetry_events()
    require_standard(path, read_onnx(path))
    able = ort.get_available_providers()
    providers = [name for name in (GPU_PROVIDER,) if on_gpu and name in able] + ["CPUExecutionProvider"]
    try:
        return ort.InferenceSession(str(path), _options(threads), providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise DataError(f"{path} cannot be loaded by onnxruntime: {reason_of(error)} Export again.") from error


def _onnxruntime() -> Any:
    with telemetry_off():
        import onnxruntime
    return onnxruntime


def _options(threads: int) -> Any:
    options = _onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = SILENT_LOG
    # Spinning threads slow down other processes, and distort all measurements on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


RUNTIME = Runtime("onnxruntime", OrtRunner)

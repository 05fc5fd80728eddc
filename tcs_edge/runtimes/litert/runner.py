"""LiteRT on the CPU. It computes in float32 on every CPU, also with float16 weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tcs_edge.errors import DataError, reason_of
from tcs_edge.runtimes.base import ClosingRunner, coarsest, run_all, static_sides, stored_labels
from tcs_edge.runtimes.beside import matching_metadata, stated_img_size
from tcs_edge.runtimes.litert.library import interpreter, require_runs
from tcs_edge.runtimes.litert_file import LitertModel, parse_litert, read_content
from tcs_edge.specs.artifacts import Precision, runner_name

SHORT_INTEGERS = ("int8", "uint8", "int16", "int4", "uint4", "int2")


class LitertRunner(ClosingRunner):
    """Runner of a .tflite file with `threads` threads.

    Its name is "litert", followed by the precision of the weights if that is not fp32.

    Raises:
        DataError: the file is missing or damaged, or not an image classifier with float32 input (1, 3, S, S).
        MissingError: LiteRT is not installed.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        path = Path(path)
        content = read_content(path)
        model = parse_litert(content, path)
        if model.problem:
            raise DataError(f"{path}: {model.problem}. Export it again.")
        self._img_size, classes = _require_classifier(model, path)
        stored = stored_in(model)
        metadata = matching_metadata(path, stored)
        if stated_img_size(metadata, path) not in (None, self._img_size):
            raise DataError(f"{path}: its metadata states another img_size than its input has. Export it again.")
        self.labels = stored_labels(metadata.get("labels"), classes, str(path))
        require_runs(path)
        self.precision = coarsest(stored, "f32")
        self.name = runner_name("litert", stored)
        try:
            self._interpreter: Any = interpreter(content, threads)
        except (RuntimeError, ValueError) as error:
            raise DataError(f"{path} cannot be loaded by LiteRT: {reason_of(error)} Export it again.") from error
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return logits, float32 (B, classes), for float32 images (B, 3, S, S)."""
        return run_all(self._infer, images, self._img_size, one_by_one=True)

    def _infer(self, images: np.ndarray) -> np.ndarray:
        try:
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(images))
            self._interpreter.invoke()
            return np.asarray(self._interpreter.get_tensor(self._output))
        except (RuntimeError, ValueError) as error:
            raise DataError(f"LiteRT failed on an image of {images.shape[2]} px: {reason_of(error)}") from error

    def close(self) -> None:
        """Free the model."""
        self._interpreter = None


def stored_in(model: LitertModel) -> Precision:
    """Return the precision of the coarsest weights of a model."""
    if any(model.elements[kind] for kind in SHORT_INTEGERS):
        return "int8"
    return "fp16" if model.elements["float16"] else "fp32"


def _require_classifier(model: LitertModel, path: Path) -> tuple[int, int]:
    """Return the pixels of the input and the number of logits.

    Raises:
        DataError: other inputs and outputs than float32 (1, 3, S, S) -> (1, classes).
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise DataError(f"{path}: not one input and one output, as a classifier has.")
    (image,), (logits,) = model.inputs, model.outputs
    if {image.kind, logits.kind} != {"float"} or len(logits.shape) != 2 or logits.shape[0] != 1:
        raise DataError(f"{path}: its input and output must be float32, and the output (1, classes).")
    _, side = static_sides(list(image.shape), str(path))
    return side or 0, logits.shape[1]

"""ONNX Runtime on a file with built-in preprocessing, which takes uint8 images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tcs_edge.errors import DataError, reason_of
from tcs_edge.runtimes.base import ClosingRunner, coarsest, find_outputs, stored_labels, stored_precision, stored_size
from tcs_edge.runtimes.onnxruntime import open_session
from tcs_edge.specs.artifacts import runner_name

UINT8 = "tensor(uint8)"


class PixelsRunner(ClosingRunner):
    """Runner of an ONNX file with one uint8 RGB image (H, W, 3) of any size as input.

    Its name is "onnxruntime-pixels", with the file's precision in between if that is not fp32.

    Raises:
        DataError: the file is missing, truncated, or takes another input.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = open_session(path, threads, UINT8)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._names = [output.name for output in self._session.get_outputs()]
        self._logits, self._embedding = find_outputs(self._names, str(path))
        sizes = [output.shape[-1] for output in self._session.get_outputs()]
        self.labels = stored_labels(metadata.get("labels"), sizes[self._logits], str(path))
        self.embedding_size = 0 if self._embedding is None else stored_size(sizes[self._embedding], str(path))
        stored = stored_precision(metadata.get("precision"), str(path))
        self.name = f"{runner_name('onnxruntime', stored)}-pixels"
        self.precision = "int8" if coarsest(stored, "f32") == "int8" else "pixels"

    def outputs(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits, float32 (1, classes), and the embedding, for a uint8 image (H, W, 3).

        Raises:
            DataError: another type or shape, or a failure of the runtime.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise DataError(f"expected a uint8 image (H, W, 3), got {image.dtype} {image.shape}.")
        try:
            made = self._session.run(self._names, {self._session.get_inputs()[0].name: image})
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise DataError(f"onnxruntime failed on an image {image.shape}: {reason_of(error)}") from error
        return made[self._logits], None if self._embedding is None else made[self._embedding]

    def close(self) -> None:
        """Free the session."""
        self._session = None

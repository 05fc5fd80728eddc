"""A small int8 model, for the one fault that only a quantised file can have."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from tcs_edge.quiet import quiet
from tcs_edge.selftest.specimen import Specimen

CALIBRATION_IMAGES = 16


class _Pictures(CalibrationDataReader):
    """Training pictures, one by one, as onnxruntime's calibration asks for them."""

    def __init__(self, specimen: Specimen) -> None:
        self._inputs: Iterator[dict[str, np.ndarray]] = iter(
            {"image": specimen.preprocess(specimen.images.train.image(row))[None]} for row in range(CALIBRATION_IMAGES)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, or None after the last."""
        return next(self._inputs, None)


def add_int8(specimen: Specimen) -> None:
    """Write model.int8.onnx (QDQ) beside the good exports."""
    source = specimen.exports / "model.onnx"
    level = logging.root.level
    # It advises, on the root logger and on stdout, about a preparation that our graphs do not need.
    logging.root.setLevel(logging.ERROR)
    try:
        with quiet("onnxruntime"), contextlib.redirect_stdout(io.StringIO()):
            quantize_static(
                source, source.with_name("model.int8.onnx"), _Pictures(specimen), quant_format=QuantFormat.QDQ
            )
    finally:
        logging.root.setLevel(level)

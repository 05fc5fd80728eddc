"""Make a small int8 model, for the fault that only a quantized file can have."""

from __future__ import annotations

from pathlib import Path

import onnx

from tcs_edge.data.loader import image_batches
from tcs_edge.quantization.gemm import read_for_int8
from tcs_edge.quantization.qdq import Scheme, with_float_layers
from tcs_edge.quantization.quantize import least_noisy
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.selftest.specimen import Specimen
from tcs_edge.validation.checks import Check
from tcs_edge.validation.validate import validate

CALIBRATION_IMAGES = 32
BATCH_SIZE = 16
FILE = "model.int8.onnx"
# Seven-bit weights are slightly less accurate but correct on every processor.
SCHEME = Scheme(per_channel=True, signed_activations=False, seven_bit_weights=True)


def add_int8(specimen: Specimen) -> bool:
    """Write an int8 model beside the good exports; return True if it passes the checks of a release.

    There is no fallback to float. Untrained networks with depthwise convolutions mostly fail in 8 bits.
    """
    rows = range(CALIBRATION_IMAGES)
    images = [specimen.preprocess(specimen.images.train.image(row))[None] for row in rows]
    source = specimen.exports / "model.onnx"
    model, _ = least_noisy(source, (SCHEME,), images, threads=1)
    onnx.save(with_float_layers(model, read_for_int8(source), ()), specimen.exports / FILE)
    return all(check.passed for check in int8_checks(specimen, specimen.exports))


def int8_checks(specimen: Specimen, exports: Path) -> tuple[Check, ...]:
    """Check the int8 file in `exports` against the network, with the limits of int8."""
    with OrtRunner(exports / FILE) as runner:
        batches = image_batches(specimen.images.test, specimen.preprocess, BATCH_SIZE)
        return validate(TorchRunner(specimen.model), [runner], batches, classes=specimen.images.classes).checks

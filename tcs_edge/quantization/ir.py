"""Quantize to int8 as OpenVINO IR with nncf's post-training quantization."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tcs_edge.errors import UsageError, reason_of
from tcs_edge.runtimes.openvino.export import read_as_openvino
from tcs_edge.utils.quiet import quiet
from tcs_edge.utils.telemetry import telemetry_off

if TYPE_CHECKING:
    import openvino as ov

HEAVY = {"Convolution", "GroupConvolution", "MatMul"}  # OpenVINO's types of qdq.HEAVY; other layers stay float


def quantized_ir(
    source: Path, images: Sequence[np.ndarray], float_layers: Collection[str], transformer: bool
) -> ov.Model:
    """Quantize the ONNX file `source` to an OpenVINO model with int8 weights and activations.

    Args:
        images: float32 (1, 3, S, S) each, for the ranges of the activations and the correction of biases.
        float_layers: names of ONNX nodes that stay float.
        transformer: use nncf's mode for transformers, which leaves sensitive parts of attention in float.

    Raises:
        UsageError: nncf cannot quantize this model.
    """
    with telemetry_off():
        import nncf  # imported here: it loads torch's extensions and takes seconds
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    model = read_as_openvino(source)
    try:
        with _silent():
            return nncf.quantize(
                model,
                nncf.Dataset(list(images)),
                # Activations behind hard-swish and GELU are asymmetric. Symmetric ranges would waste half.
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(images),
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
                # nncf's default ranges are means of the images' extremes, which clip activations of hard-swish.
                # MobileNetV3 has 8 dB with them and 19 dB with the extremes.
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
                ),
                # The converter keeps a node's name, and adds a suffix if it splits the node.
                ignored_scope=nncf.IgnoredScope(
                    patterns=[f"^{re.escape(name)}(/.*)?$" for name in float_layers],
                    types=sorted({op.get_type_name() for op in model.get_ops()} - HEAVY),
                    validate=False,
                ),
            )
    except (RuntimeError, ValueError, nncf.InternalError, nncf.UnsupportedModelError) as error:
        raise UsageError(f"nncf cannot quantize this model: {reason_of(error).rstrip('.')}. Omit int8.") from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with quiet("nncf"), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield

"""int8 as OpenVINO IR, by nncf's post-training quantization."""

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

HEAVY = {"Convolution", "GroupConvolution", "MatMul"}  # what qdq.HEAVY becomes; what lies between stays float


def quantized_ir(
    source: Path, images: Sequence[np.ndarray], float_layers: Collection[str], transformer: bool
) -> ov.Model:
    """The model of the ONNX file `source` with int8 weights and activations.

    Args:
        images: float32 (1, 3, S, S) each, for the ranges of the activations and the correction of biases.
        float_layers: names of ONNX nodes that stay float.
        transformer: leave what attention is sensitive to in float, as nncf knows it.

    Raises:
        UsageError: nncf cannot quantize this model.
    """
    with telemetry_off():
        import nncf  # brings torch's extensions and takes seconds to import
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    model = read_as_openvino(source)
    try:
        with _silent():
            return nncf.quantize(
                model,
                nncf.Dataset(list(images)),
                # Activations behind hard-swish and GELU are lopsided: symmetric ranges would waste half.
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(images),
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
                # nncf's own choice of ranges, means of the images' extremes, cuts off what hard-swish lets through:
                # MobileNetV3 keeps 8 dB with it and 19 dB with the extremes themselves.
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
                ),
                # The converter keeps a node's name, with a word behind it where it split the node.
                ignored_scope=nncf.IgnoredScope(
                    patterns=[f"^{re.escape(name)}(/.*)?$" for name in float_layers],
                    types=sorted({op.get_type_name() for op in model.get_ops()} - HEAVY),
                    validate=False,
                ),
            )
    except (RuntimeError, ValueError, nncf.InternalError, nncf.UnsupportedModelError) as error:
        raise UsageError(f"nncf cannot quantize this model: {reason_of(error)} Leave int8 out.") from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with quiet("nncf"), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield

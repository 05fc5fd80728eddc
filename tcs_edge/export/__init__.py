"""Writing the trained model as ONNX and OpenVINO IR, with its labels and preprocessing."""

from tcs_edge.utils.telemetry import switch_off

switch_off()

"""Running a model: torch, ONNX Runtime and OpenVINO behind one `Runner` protocol."""

from tcs_edge.utils.telemetry import switch_off

switch_off()

"""OpenVINO IR; see `runtimes.openvino.export`."""

from tcs_edge.runtimes.openvino.export import export_openvino

__all__ = ["export_openvino"]

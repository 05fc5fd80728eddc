"""OpenVINO on the CPU: the runner, and the export of its own format."""

from tcs_edge.runtimes.openvino.runner import OpenVinoRunner

__all__ = ["OpenVinoRunner"]

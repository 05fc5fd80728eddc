"""OpenVINO on the CPU: its runner and the export of its own format."""

from __future__ import annotations

from pathlib import Path

from tcs_edge.runtimes.base import OwnFormat, Runtime
from tcs_edge.runtimes.openvino.export import export_openvino, read_openvino_metadata
from tcs_edge.runtimes.openvino.runner import OpenVinoRunner
from tcs_edge.specs.artifacts import openvino_file

__all__ = ["RUNTIME", "OpenVinoRunner"]


def _as_deployed(path: Path, threads: int) -> OpenVinoRunner | None:
    runner = OpenVinoRunner(path, threads, precision="device")
    return None if runner.arithmetic == "f32" else runner


RUNTIME = Runtime(
    "openvino",
    open=OpenVinoRunner,
    open_as_deployed=_as_deployed,
    own_format=OwnFormat(openvino_file, export_openvino, read_openvino_metadata, beside=(".bin",)),
)

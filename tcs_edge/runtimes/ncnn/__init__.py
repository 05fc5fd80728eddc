"""ncnn on the CPU: its runner and the export of its own format."""

from __future__ import annotations

from tcs_edge.runtimes.base import OwnFormat, Runtime
from tcs_edge.runtimes.beside import read_metadata_beside
from tcs_edge.runtimes.ncnn.export import export_ncnn
from tcs_edge.runtimes.ncnn.library import require_ncnn
from tcs_edge.runtimes.ncnn.runner import NcnnRunner, as_deployed
from tcs_edge.specs.artifacts import BESIDE, ncnn_file

__all__ = ["RUNTIME", "NcnnRunner"]

RUNTIME = Runtime(
    "ncnn",
    open=NcnnRunner,
    open_as_deployed=as_deployed,
    own_format=OwnFormat(ncnn_file, export_ncnn, read_metadata_beside, beside=BESIDE[".param"]),
    reads_onnx=False,
    on_request=True,
    require=require_ncnn,
)

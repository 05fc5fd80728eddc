"""ncnn on the CPU: its runner and the export of its own format."""

from __future__ import annotations

from tcs_edge.runtimes.base import OwnFormat, Runtime
from tcs_edge.runtimes.beside import read_metadata_beside
from tcs_edge.runtimes.ncnn.export import export_ncnn
from tcs_edge.runtimes.ncnn.library import require_ncnn
from tcs_edge.runtimes.ncnn.runner import NcnnRunner, as_deployed
from tcs_edge.specs.artifacts import BESIDE, ncnn_file

__all__ = ["RUNTIME", "NcnnRunner"]

# `selftest --all --format ncnn` found these with pnnx 20261020.
LACKING = frozenset((
    "convnext_atto", "deit_small_patch16_224", "deit_tiny_patch16_224", "edgenext_x_small", "edgenext_xx_small",
    "levit_128s", "mobilevit_xxs", "mobilevitv2_050", "mobilevitv2_075", "pvt_v2_b0", "swiftformer_xs",
    "vit_tiny_patch16_224", "xcit_nano_12_p16_224",
))  # fmt: skip

RUNTIME = Runtime(
    "ncnn",
    open=NcnnRunner,
    open_as_deployed=as_deployed,
    own_format=OwnFormat(ncnn_file, export_ncnn, read_metadata_beside, beside=BESIDE[".param"], lacking=LACKING),
    reads_onnx=False,
    on_request=True,
    require=require_ncnn,
)

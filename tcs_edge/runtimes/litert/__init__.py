"""LiteRT (formerly TensorFlow Lite) on the CPU: its runner and the export of its own format."""

from __future__ import annotations

from tcs_edge.runtimes.base import OwnFormat, Runtime
from tcs_edge.runtimes.beside import read_metadata_beside
from tcs_edge.runtimes.litert.export import export_litert
from tcs_edge.runtimes.litert.library import require_litert
from tcs_edge.runtimes.litert.runner import LitertRunner
from tcs_edge.specs.artifacts import BESIDE, litert_file

__all__ = ["RUNTIME", "LitertRunner"]

# `selftest --all --format litert` found these with litert-torch 0.10.0.
LACKING = frozenset(("mobilevitv2_050", "mobilevitv2_075"))

RUNTIME = Runtime(
    "litert",
    open=LitertRunner,
    package="ai-edge-litert",
    own_format=OwnFormat(
        litert_file,
        None,
        read_metadata_beside,
        beside=BESIDE[".tflite"],
        export_model=export_litert,
        lacking=LACKING,
    ),
    reads_onnx=False,
    on_request=True,
    require=require_litert,
)

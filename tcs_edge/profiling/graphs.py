"""Export the graphs to measure: students with random weights, because latency does not depend on them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from tcs_edge.errors import TcsEdgeError, reason_of
from tcs_edge.profiling.device.graphs import Key
from tcs_edge.students.build import build_student, deployable, feature_dim
from tcs_edge.utils.files import atomic_path
from tcs_edge.utils.progress import track
from tcs_edge.utils.quiet import quiet
from tcs_edge.utils.telemetry import telemetry_off

CLASSES = 10
OPSET = 17
CHATTY = ("torch.onnx",)
CALIBRATION_IMAGES = 2


def export_graphs(keys: Iterable[Key], folder: Path) -> dict[str, str]:
    """Export the graphs that `folder` lacks; return the reason of every failure by the graph's file name."""
    graphs = {key.graph_name: key for key in keys}
    failed: dict[str, str] = {}
    for name, key in track(graphs.items(), "exporting", total=len(graphs)):
        if (folder / name).is_file():
            continue
        try:
            _export(key, folder)
        except (TcsEdgeError, RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            failed[name] = f"export failed: {reason_of(error)}"
    return failed


def _export(key: Key, folder: Path) -> None:
    plain = folder / Key(key.model, key.img_size, key.runtime, key.threads).graph_name
    if not plain.is_file():
        export_graph(key.model, key.img_size, plain)
    if key.precision == "int8":
        _quantize(plain, folder / key.graph_name, key.img_size)


def export_graph(model: str, img_size: int, path: Path) -> None:
    """Write the deployed student (backbone and one Linear) as ONNX with a static batch of 1.

    The TorchScript exporter takes 1 s, the default exporter 10 s. After the runtime's optimization both graphs
    are equally fast.
    """
    backbone = deployable(build_student(model, img_size, "random", seed=0))
    student = nn.Sequential(backbone, nn.Linear(feature_dim(backbone, img_size), CLASSES)).eval()
    image = torch.zeros(1, 3, img_size, img_size)
    with atomic_path(path) as draft, quiet(*CHATTY), warnings.catch_warnings():
        torch.onnx.export(student, (image,), str(draft), dynamo=False, opset_version=OPSET, input_names=["image"])


def _quantize(plain: Path, path: Path, img_size: int) -> None:
    """Quantize every layer to int8 (QDQ, per channel), for the lowest latency of a released int8 model."""
    with telemetry_off():
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

    class Noise(CalibrationDataReader):
        def __init__(self) -> None:
            images = np.random.default_rng(0).standard_normal(
                (CALIBRATION_IMAGES, 1, 3, img_size, img_size), dtype=np.float32
            )
            self._feeds: Iterator[dict[str, np.ndarray]] = iter([{"image": image} for image in images])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    with TemporaryDirectory() as scratch, atomic_path(path) as draft, quiet("root"):
        prepared = str(Path(scratch) / "prepared.onnx")
        quant_pre_process(str(plain), prepared)
        quantize_static(prepared, str(draft), Noise(), quant_format=QuantFormat.QDQ, per_channel=True)

"""Export every candidate like `compress`, and compare both runtimes with torch.

    python tools/sweep_candidates.py --img-size 224 --out tcs_edge/models/exported_bytes.json [--model NAME ...]

Random weights and biases, ten classes. Prints one line per candidate: bytes of the ONNX file in float32, float16 and
int8 (every layer, per channel), bytes of OpenVINO's .xml and .bin in float32, and the largest difference of the
float32 logits from torch, relative to their range. Add failed candidates to LEFT_OUT in tcs_edge/models/candidates.py.
--out gets the bytes of the others, after each candidate. Candidates that the file has already are kept and not exported
again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tcs_edge.errors import TcsEdgeError
from tcs_edge.export.files import save_onnx
from tcs_edge.export.fp16 import export_onnx_fp16
from tcs_edge.export.onnx import export_onnx
from tcs_edge.models.candidates import CANDIDATES, EXPORTED_VERSION, MEASURED_CLASSES
from tcs_edge.quantization.qdq import Scheme, quantized
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.openvino.export import export_openvino
from tcs_edge.students.build import build_student, deployable, feature_dim
from tcs_edge.utils.files import write_json
from tcs_edge.utils.reading import read_json

LABELS = tuple("abcdefghij")[:MEASURED_CLASSES]
TOLERANCE = 1e-3
CALIBRATION_IMAGES = 2
SCHEME = Scheme(per_channel=True, signed_activations=False, seven_bit_weights=False)


def sweep(name: str, img_size: int, folder: Path) -> tuple[float, dict[str, int], int]:
    """Export one candidate; return the largest relative difference, the bytes by precision, and those of OpenVINO."""
    backbone = deployable(with_biases(build_student(name, img_size, "random", seed=0)))
    model = nn.Sequential(backbone, nn.Linear(feature_dim(backbone, img_size), len(LABELS))).eval()
    path = export_onnx(model, folder / f"{name}.onnx", img_size, labels=LABELS, preprocess={"img_size": img_size})
    xml, weights = export_openvino(path, folder / f"{name}.xml")
    image = np.random.default_rng(0).standard_normal((1, 3, img_size, img_size), dtype=np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(image)).numpy()
    worst = 0.0
    for runner in (OrtRunner(path), OpenVinoRunner(xml)):
        with runner:
            worst = max(worst, float(np.abs(runner.run(image) - expected).max() / np.ptp(expected)))
    half = export_onnx_fp16(path, folder / "fp16.onnx")
    images = np.random.default_rng(1).standard_normal((CALIBRATION_IMAGES, 1, 3, img_size, img_size), np.float32)
    eighth = save_onnx(quantized(path, SCHEME, iter(images), folder / "ranges.json"), folder / "int8.onnx")
    files = {"fp32": path, "fp16": half, "int8": eighth}
    openvino = xml.stat().st_size + weights.stat().st_size
    return worst, {precision: file.stat().st_size for precision, file in files.items()}, openvino


def with_biases(network: nn.Module) -> nn.Module:
    """Draw all biases and running means, as in a trained network; exporters drop biases of zero."""
    torch.manual_seed(0)
    shifts = [*network.named_parameters(), *network.named_buffers()]
    for name, values in shifts:
        if name.endswith(("bias", "running_mean")):
            nn.init.normal_(values, std=0.1)
    return network


def main() -> None:
    given = parse_arguments()
    torch.set_num_threads(1)
    document = start(given)
    for name in given.model or CANDIDATES:
        if name in document["bytes"] and name in document["openvino_bytes"]:
            continue
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                worst, sizes, openvino = sweep(name, given.img_size, Path(folder))
                outcome = "ok" if worst <= TOLERANCE else "FAILED"
                line = f"{outcome} {sizes}, OpenVINO {openvino}, difference {worst:.1e}"
            except (TcsEdgeError, RuntimeError, ValueError) as error:
                line = f"FAILED {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"{name}: {line} ({time.perf_counter() - started:.0f} s)", flush=True)
        if given.out and line.startswith("ok"):
            document["bytes"][name], document["openvino_bytes"][name] = sizes, openvino
            write_json(given.out, document)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--model", action="append", help="any timm name; default: every candidate")
    parser.add_argument("--out", type=Path, help="where the bytes are written")
    return parser.parse_args()


def start(given: argparse.Namespace) -> dict[str, Any]:
    if given.out and given.out.exists():
        return read_json(given.out, EXPORTED_VERSION)
    return {
        "schema_version": EXPORTED_VERSION,
        "source": "tools/sweep_candidates.py: files as `compress` writes them, random weights and biases, "
        f"{len(LABELS)} classes, {given.img_size} px; int8: every layer, per channel",
        "bytes": {},
        "openvino_bytes": {},
    }


if __name__ == "__main__":
    main()

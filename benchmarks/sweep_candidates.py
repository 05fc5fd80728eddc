"""Export every candidate as `compress` does and hold both runtimes against torch.

    python benchmarks/sweep_candidates.py --img-size 64 [--model NAME ...]

Random weights. Prints one line per candidate: parameters, bytes of the ONNX file, largest difference of the logits
from torch's, relative to their spread. A candidate that fails goes to LEFT_OUT in tcs_edge/students/candidates.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tcs_edge.errors import TcsEdgeError
from tcs_edge.export.onnx import export_onnx
from tcs_edge.export.openvino import export_openvino
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.students.build import build_student, deployable, feature_dim
from tcs_edge.students.candidates import CANDIDATES

LABELS = tuple("abcdefghij")
TOLERANCE = 1e-3


def sweep(name: str, img_size: int, folder: Path) -> str:
    """One candidate through the whole export; the line to print."""
    backbone = deployable(build_student(name, img_size, "random", seed=0))
    model = nn.Sequential(backbone, nn.Linear(feature_dim(backbone, img_size), len(LABELS))).eval()
    path = export_onnx(model, folder / f"{name}.onnx", img_size, labels=LABELS, preprocess={"img_size": img_size})
    xml = export_openvino(path, folder / f"{name}.xml")[0]
    image = np.random.default_rng(0).standard_normal((1, 3, img_size, img_size), dtype=np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(image)).numpy()
    worst = 0.0
    for runner in (OrtRunner(path), OpenVinoRunner(xml)):
        with runner:
            worst = max(worst, float(np.abs(runner.run(image) - expected).max() / np.ptp(expected)))
    verdict = "ok" if worst <= TOLERANCE else "FAILED"
    return f"{verdict} {path.stat().st_size} bytes, difference {worst:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--model", action="append", help="any timm name; default: every candidate")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.model or CANDIDATES:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                line = sweep(name, args.img_size, Path(folder))
            except (TcsEdgeError, RuntimeError, ValueError) as error:
                line = f"FAILED {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"{name}: {line} ({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()

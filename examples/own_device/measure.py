"""Measure students on this machine, and write the profile that a target file names.

python measure.py lcnet_050 mobilenetv3_small_050 --img-size 64 --out my-board.json

Run it on the device itself, or copy the exported models there and keep the way of measuring: warm-up first,
one thread, the median of many runs, and the band of the medians over repetitions.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime
from torch import nn

from tcs_edge.data import Preprocess
from tcs_edge.export.onnx import export_onnx
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.specs.profile import LatencyRow, Profile, save_profile
from tcs_edge.students.build import build_student, feature_dim

CLASSES = ("a", "b")
WARM_UP, RUNS, REPETITIONS = 5, 20, 3


def measured_row(name: str, img_size: int) -> LatencyRow:
    """Latency of one image through the student's ONNX file, random weights, one thread."""
    with tempfile.TemporaryDirectory() as folder, OrtRunner(exported(name, img_size, Path(folder))) as runner:
        image = np.random.default_rng(0).normal(size=(1, 3, img_size, img_size)).astype(np.float32)
        medians = [median_ms(runner, image) for _ in range(REPETITIONS)]
    return LatencyRow(
        model=name,
        img_size=img_size,
        runtime="onnxruntime",
        threads=1,
        precision="fp32",
        p50_ms=statistics.median(medians),
        low_ms=min(medians),
        high_ms=max(medians),
        source="measured",
        citation="own",
    )


def exported(name: str, img_size: int, folder: Path) -> Path:
    backbone = build_student(name, img_size, "random", seed=0)
    model = nn.Sequential(backbone, nn.Linear(feature_dim(backbone, img_size), len(CLASSES))).eval()
    preprocess = Preprocess(img_size).to_json()
    return export_onnx(model, folder / "model.onnx", img_size, labels=CLASSES, preprocess=preprocess)


def median_ms(runner: OrtRunner, image: np.ndarray) -> float:
    for _ in range(WARM_UP):
        runner.run(image)
    return statistics.median(once_ms(runner, image) for _ in range(RUNS))


def once_ms(runner: OrtRunner, image: np.ndarray) -> float:
    started = time.perf_counter()
    runner.run(image)
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("students", nargs="+", help="names that `tcs-edge candidates` lists")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--target", default="my-board", help="name in the target file")
    parser.add_argument("--out", type=Path, default=Path("my-board.json"))
    given = parser.parse_args()

    rows = tuple(measured_row(name, given.img_size) for name in given.students)
    machine = {"cpu": platform.processor() or platform.machine(), "onnxruntime": onnxruntime.__version__}
    citation = f"measured with examples/own_device/measure.py on {date.today().isoformat()}"
    save_profile(Profile(target=given.target, machine=machine, citations={"own": citation}, rows=rows), given.out)
    for row in rows:
        print(f"{row.model}: {row.p50_ms:.2f} ms ({row.low_ms:.2f} to {row.high_ms:.2f})")


if __name__ == "__main__":
    main()

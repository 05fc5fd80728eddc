"""Fit coordinates and train an epoch on made rows of many images; print times and the memory of each stage.

    python benchmarks/large_epoch.py --images 64000 --out FILE
    python benchmarks/large_epoch.py --images 1280000 --out FILE

Features, coordinates and the tiny images are row arrays, as in a run. The epoch takes --steps training steps with TCS,
and then loads the other batches without a step. The memory is that of the process without mapped files, which the
system takes back when it needs room: `RssAnon` of Linux. One line of JSON is appended to --out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tcs_edge.data.augment import Augment
from tcs_edge.data.images import Split
from tcs_edge.data.loader import TrainingBatches
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.methods import Tcs
from tcs_edge.tcs.coordinates import ROWS_AT_ONCE, fit_coordinates
from tcs_edge.tcs.selection import SelectionSchedule
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.pace import Rows
from tcs_edge.training.schedule import Schedule
from tcs_edge.training.trainer import Data, train
from tcs_edge.utils.allocator import keeping_freed_memory, return_freed_memory
from tcs_edge.utils.row_array import row_array, stored_rows

SIDE_PX, CLASSES, WIDTH = 8, 1000, 64


def own_mb() -> float:
    """Memory of this process without files, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1e3


class Stages:
    """CPU seconds and the largest memory seen of each stage."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.largest, self.started = 0.0, time.process_time()

    def look(self) -> None:
        self.largest = max(self.largest, own_mb())

    def end(self, name: str) -> None:
        self.look()
        self.facts |= {f"{name}_cpu_s": round(time.process_time() - self.started, 1), f"{name}_mb": round(self.largest)}
        print(f"{name}: {self.facts[f'{name}_cpu_s']} CPU s, {self.largest:.0f} MB", flush=True)
        return_freed_memory()
        self.largest, self.started = 0.0, time.process_time()


def made(images: int, dim: int) -> tuple[np.ndarray, Split]:
    """Return random features, float16 (images, dim), and tiny images with labels."""
    rng = np.random.default_rng(0)
    features, pixels = row_array((images, dim), np.float16), row_array((images, SIDE_PX, SIDE_PX, 3), np.uint8)
    for start in range(0, images, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        features[part] = rng.standard_normal((len(features[part]), dim), np.float32)
        pixels[part] = rng.integers(0, 256, pixels[part].shape, np.uint8)
    return features, Split(pixels, rng.integers(0, CLASSES, images), range(images))  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    stages = Stages()
    stages.facts |= {"images": options.images, "dim": options.dim}
    features, images = made(options.images, options.dim)
    stages.end("made")

    def parts() -> Iterator[torch.Tensor]:
        for part in torch.from_numpy(features).split(ROWS_AT_ONCE):
            stages.look()
            yield part

    coordinates = fit_coordinates(parts())
    rows = stored_rows((coordinates.transform(part).numpy() for part in parts()), options.images, np.float16)
    stages.end("coordinates")
    augment = Augment("crop-flip", Preprocess(SIDE_PX))
    batches = TrainingBatches(images, augment, options.batch_size, 0)
    method = Tcs(WIDTH, CLASSES, torch.from_numpy(rows), SelectionSchedule())
    student = nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    loaded: Iterator[Rows] = iter(())

    def first_steps(epoch: int) -> Iterator[Rows]:
        nonlocal loaded
        loaded = iter(batches.of_epoch(epoch))
        for batch in islice(loaded, options.steps):
            stages.look()
            yield batch

    with keeping_freed_memory():
        schedule = Schedule(1, options.batch_size, 1e-3)
        train(student, method, Data(first_steps, options.steps, lambda: []), schedule, 0, make_accelerator("cpu"))
        stages.end("steps")
        for _batch in loaded:
            stages.look()
    stages.end("loading")
    with options.out.open("a") as lines:
        lines.write(json.dumps(stages.facts) + "\n")


if __name__ == "__main__":
    main()

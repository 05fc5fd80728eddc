"""Compare two processes that train one student with one process, each with one thread.

    python benchmarks/processes.py --rounds 3

The processes take turns: one, two, one, two. Rates are images per second of all processes together, and the ratio needs
two quiet cores: the load before each turn is printed. The rate in CPU time divides the images of all processes by the
CPU seconds of one; other work on the machine changes it less. The coordinates are fitted on the same made features.
Exits 1 if the ratio of the medians is below --limit, or if coordinates differ by more than 1e-10.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch

from tcs_edge.data.augment import Augment
from tcs_edge.data.images import Split
from tcs_edge.data.loader import TrainingBatches
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.methods import Tcs
from tcs_edge.stages.targets import shared_moments
from tcs_edge.students.build import build_student, feature_dim
from tcs_edge.tcs.coordinates import coordinates_of
from tcs_edge.tcs.selection import SelectionSchedule
from tcs_edge.teachers.features import Features
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.schedule import Schedule
from tcs_edge.training.trainer import Data, train
from tcs_edge.utils.ranks import current, joined

CLASSES, DIMS = 10, 64
LARGEST_DIFFERENCE = 1e-10


def one_process(options: argparse.Namespace) -> dict[str, Any]:
    """Train in this process and its peers; the first epoch warms up and is not counted."""
    torch.set_num_threads(1)
    preprocess, images = Preprocess(options.img_size), options.steps * options.batch_size
    rng = np.random.default_rng(0)
    side = options.img_size * 5 // 4
    split = Split(
        rng.integers(0, 256, (images, side, side, 3), dtype=np.uint8),
        rng.integers(0, CLASSES, images),
        [str(index) for index in range(images)],
    )
    rows = (rng.standard_normal((20 * images, DIMS)) * np.linspace(1, 8, DIMS)).astype(np.float16)
    with joined("cpu"):
        features = Features(rows, rows[:0], "", None, 0, 0.0)  # type: ignore[arg-type]
        axes = coordinates_of(shared_moments(features), DIMS).axes
        torch.manual_seed(0)
        backbone = build_student(options.student, options.img_size, "random", 0)
        targets = torch.from_numpy(rows[:images])
        method = Tcs(feature_dim(backbone, options.img_size), CLASSES, targets, SelectionSchedule())
        batches = TrainingBatches(split, Augment("crop-flip", preprocess), options.batch_size, 0, place=current())
        log: list[dict[str, Any]] = []
        cpu: list[float] = []

        def kept(metrics: dict[str, Any]) -> None:
            log.append(metrics)
            cpu.append(time.process_time())

        data = Data(batches.of_epoch, len(batches), lambda: [])
        train(backbone, method, data, Schedule(3, options.batch_size, 1e-3), 0, make_accelerator("cpu"), log=kept)
        return {
            "images_per_s": statistics.median(line["images_per_s"] for line in log[1:]),
            "images_per_cpu_s": 2 * images / (cpu[2] - cpu[0]),
            "loss": log[-1]["loss"],
            "axes": axes.tolist(),
        }


def turn(processes: int) -> dict[str, Any]:
    """Run one measurement; return the result of rank 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    single = os.environ | {"OMP_NUM_THREADS": "1"}
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    children = [
        subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--child"],
            env=single | shared | {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": str(processes)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in map(str, range(processes))
    ]
    found = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        sys.exit("a process failed")
    result: dict[str, Any] = json.loads(found[0].splitlines()[-1])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="mobilenetv3_small_100")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes together")
    parser.add_argument("--steps", type=int, default=6, help="in an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1.7)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(one_process(options)))
        return 0
    rates: dict[int, list[float]] = {1: [], 2: []}
    of_cpu: dict[int, list[float]] = {1: [], 2: []}
    axes = []
    for _ in range(options.rounds):
        for processes in (1, 2):
            load = os.getloadavg()[0]
            found = turn(processes)
            rates[processes].append(found["images_per_s"])
            of_cpu[processes].append(found["images_per_cpu_s"])
            axes.append(np.array(found["axes"]))
            print(
                f"{processes} processes: {rates[processes][-1]:7.1f} images/s, {of_cpu[processes][-1]:7.1f} in CPU "
                f"time, loss {found['loss']:.4f}, load before {load:.1f}",
                flush=True,
            )
    ratio, cpu_ratio = (statistics.median(found[2]) / statistics.median(found[1]) for found in (rates, of_cpu))
    difference = max(float(np.abs(one - axes[0]).max()) for one in axes)
    print(f"coordinates differ by {difference:.1e}")
    print(f"two processes against one: {ratio:.2f} (limit {options.limit}), in CPU time {cpu_ratio:.2f}")
    return 0 if ratio >= options.limit and difference <= LARGEST_DIFFERENCE else 1


if __name__ == "__main__":
    sys.exit(main())

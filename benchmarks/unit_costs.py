"""CPU time of one thread for each image: the unit costs in docs/explanation/scale.md.

    python benchmarks/unit_costs.py

Photos are generated, and weights are random, so it needs no file. A figure is the median over the rounds, with the
lowest and the highest. Other work on the machine raises all of them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from throughput import AUGMENT, PHOTO, PREPROCESS, WEB, photos

from tcs_edge.data.cache import keep_decoded
from tcs_edge.data.decode import inspect
from tcs_edge.data.images import Split, content_hash
from tcs_edge.data.intake_photos import IntakePhotos
from tcs_edge.data.views import view_generator
from tcs_edge.methods import CrossEntropy
from tcs_edge.students.build import build_student, feature_dim
from tcs_edge.teachers.batch_size import ON_CPU
from tcs_edge.teachers.load import untrained_teacher
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.schedule import Schedule
from tcs_edge.training.trainer import Data, train
from tcs_edge.utils.allocator import keeping_freed_memory

CLASSES, STEPS = 10, 4


def show(name: str, seconds: list[float], images: int) -> None:
    """Print the CPU time of one image, in ms, from the times of several rounds over `images`."""
    found = sorted(1e3 * one / images for one in seconds)
    print(f"{name:<52} {statistics.median(found):>8.1f} ms   ({found[0]:.1f} to {found[-1]:.1f})", flush=True)


def timed(work: Callable[[], object], rounds: int) -> list[float]:
    """Return the CPU time of each round; an earlier round warms up."""
    spent = []
    for _ in range(1 + rounds):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return spent[1:]


def images(folder: Path, count: int, size: tuple[int, int], rounds: int) -> None:
    """Measure the check, the working copies and the views of photos of one size."""
    split = photos(folder, count, size)
    name = f"{size[0]} x {size[1]}"

    def check() -> None:
        for path in split.sources:
            assert isinstance(path, Path)
            inspect(path)
            content_hash(path)

    def copies(source: Split) -> None:
        fresh = keep_decoded(source, PREPROCESS, cache_gb=0)
        for row in range(count):
            fresh.image(row)

    checked = IntakePhotos(10**9, folder)
    for path in split.sources:
        assert isinstance(path, Path)
        if photo := inspect(path).photo:
            checked.put(content_hash(path), photo)
    after_check = replace(split, contents=split.content_table(), photos=checked)
    kept = keep_decoded(split, PREPROCESS)

    def views() -> None:
        for row in range(count):
            AUGMENT.view(kept.image(row), view_generator(0, (0, row, 0)))

    show(f"{name}: check, decode and hash", timed(check, rounds), count)
    show(f"{name}: decode and shrink to a working copy", timed(lambda: copies(split), rounds), count)
    if size == PHOTO:
        show(f"{name}: the same from the photos of the check", timed(lambda: copies(after_check), rounds), count)
    show(f"{name}: view from a working copy", timed(views, rounds), count)


def teacher(rounds: int) -> None:
    """Measure the network of the default teacher."""
    module, side = untrained_teacher("dinov2")
    batch = torch.randn(ON_CPU, 3, side, side)
    with torch.inference_mode(), keeping_freed_memory():
        show(f"teacher, ViT-S/14 (DINOv2-small), {side} px", timed(lambda: module(batch), rounds), ON_CPU)


def steps(name: str, batch_size: int, rounds: int) -> None:
    """Measure training steps with cross-entropy, on views that are made beforehand."""
    backbone = build_student(name, PREPROCESS.img_size, "random", 0)
    method = CrossEntropy(feature_dim(backbone, PREPROCESS.img_size), CLASSES)
    rows = (torch.randn(batch_size, 3, 224, 224), torch.arange(batch_size) % CLASSES, torch.arange(batch_size))
    marks: list[float] = []
    data = Data(lambda epoch: [rows] * STEPS, STEPS, lambda: [])
    schedule = Schedule(epochs=1 + rounds, batch_size=batch_size, lr=1e-3)
    with keeping_freed_memory():
        log = lambda metrics: marks.append(time.process_time())  # noqa: E731
        train(backbone, method, data, schedule, 0, make_accelerator("cpu"), log=log)
    spent = [end - start for start, end in pairwise(marks)]
    show(f"training step, {name}, batch {batch_size}", spent, STEPS * batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=8, help="photos of 12 MP; ten times as many of 375 x 500")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        images(Path(folder), 10 * given.photos, WEB, given.rounds)
        images(Path(folder), given.photos, PHOTO, given.rounds)
    for name in ("mobilenetv3_large_100", "tf_efficientnet_lite0"):
        steps(name, given.batch_size, given.rounds)
    teacher(given.rounds)


if __name__ == "__main__":
    main()

"""How many training steps per second TCS makes beside plain cross-entropy, on the same student.

    python benchmarks/step_rate.py --student mobilenetv3_small_100 --img-size 64 --threads 2

Both go through the real training loop on the same batches in memory, in turn (ce, tcs, ce, tcs, ...), so that
a machine that slows down slows both; the figure is the median over rounds of the ratio of step rates.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

import torch
from accelerate import Accelerator

from tcs_edge.methods import CrossEntropy, Method, Tcs
from tcs_edge.students.build import build_student, feature_dim
from tcs_edge.tcs.selection import SelectionSchedule
from tcs_edge.threads import use_threads
from tcs_edge.training.budget import Budget
from tcs_edge.training.loop import Data, train

CLASSES = 10


def batches(images: int, batch_size: int, img_size: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Noise images with labels and indices; the arithmetic does not depend on what is in the pictures."""
    pixels = torch.randn(images, 3, img_size, img_size, generator=torch.Generator().manual_seed(0))
    index = torch.arange(images)
    parts = zip(pixels.split(batch_size), (index % CLASSES).split(batch_size), index.split(batch_size), strict=True)
    return list(parts)


def steps_per_second(make: Callable[[int], Method], arguments: argparse.Namespace, data: Data) -> float:
    """Step rate of one epoch with a fresh student."""
    student = build_student(arguments.student, arguments.img_size, "random", 0)
    method = make(feature_dim(student, arguments.img_size))
    lines: list[dict] = []
    budget = Budget(epochs=2, batch_size=arguments.batch_size, lr=1e-3)  # the first epoch warms up
    train(student, method, data, budget, 0, Accelerator(cpu=arguments.cpu), log=lines.append)
    return data.steps_per_epoch / lines[-1]["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="mobilenetv3_small_100")
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dims", type=int, default=256)
    parser.add_argument("--mimic", default="cosine")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    images = arguments.steps * arguments.batch_size
    prepared = batches(images, arguments.batch_size, arguments.img_size)
    data = Data(lambda epoch: prepared, arguments.steps, val=list)
    targets = torch.randn(images, arguments.dims)
    methods: dict[str, Callable[[int], Method]] = {
        "ce": lambda width: CrossEntropy(width, CLASSES),
        "tcs": lambda width: Tcs(width, CLASSES, targets, SelectionSchedule(), mimic=arguments.mimic),
    }
    rates: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(arguments.rounds):
        for name, make in methods.items():
            rates[name].append(steps_per_second(make, arguments, data))
    ratios = [tcs / ce for tcs, ce in zip(rates["tcs"], rates["ce"], strict=True)]
    print(json.dumps({
        **vars(arguments),
        "steps_per_second": {name: round(statistics.median(values), 3) for name, values in rates.items()},
        "tcs_over_ce": {"median": round(statistics.median(ratios), 3), "min": round(min(ratios), 3),
                        "max": round(max(ratios), 3)},
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()

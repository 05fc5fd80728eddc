"""Measure the parts of `cost.py`, each with the code of the package and in its own process."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.data.augment import Augment
from tcs_edge.data.loader import training_loader
from tcs_edge.methods import MethodInputs, build_method
from tcs_edge.project.read import read_options
from tcs_edge.stages.prepare import Prepared, list_students
from tcs_edge.stages.targets import gather_features
from tcs_edge.stages.train import build_backbone, teach
from tcs_edge.students.build import feature_dim
from tcs_edge.tcs.coordinates import fit_coordinates
from tcs_edge.teachers.batch_size import ON_CPU
from tcs_edge.teachers.features import teacher_features
from tcs_edge.teachers.load import build_teacher, describe_teacher
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.schedule import Schedule
from tcs_edge.training.trainer import Data, train
from tcs_edge.utils.allocator import return_freed_memory
from tcs_edge.utils.stopwatch import Stopwatch
from tcs_edge.utils.threads import use_threads

METHODS: dict[str, dict[str, Any]] = {
    "ce": {"method": "ce"},
    "tcs": {"method": "tcs"},
    "kd": {"method": "kd", "online_teacher": True},
    "simkd": {"method": "simkd", "online_teacher": True},
}
VAL_IMAGES = 64
FEATURE_ROWS, FEATURE_DIM, ROWS_AT_ONCE = 20_000, 384, 4096


def prepared(arguments: argparse.Namespace, method: str) -> Prepared:
    """Return a few real images, a student and all options of `method`, resolved as in `compress`."""
    names = ("data", "teacher", "teacher_weights", "teacher_img_size", "student", "img_size", "batch_size")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    machine = {"device": arguments.device, "threads": arguments.threads, "cache_dir": arguments.cache_dir}
    fixed = {"target": "x86-avx2", "student_init": "random", "shots": arguments.shots, "workers": 0}
    ready = list_students(read_options(given | machine | fixed | METHODS[method], None, None)).prepared()
    use_threads(arguments.threads)
    val = ready.images.val.subset(range(min(VAL_IMAGES, len(ready.images.val))))
    return replace(ready, images=replace(ready.images, val=val))


def decoded_batches(ready: Prepared, steps: int) -> list[Any]:
    """Return `steps` training batches of real images, augmented and kept in memory."""
    options = ready.options
    augment = Augment(options.augment, ready.preprocess)
    batches: list[Any] = []
    for epoch in range(steps):
        loader = training_loader(ready.images.train, augment, options.batch_size, 0, epoch)
        batches += [batch for batch in loader if len(batch[0]) == options.batch_size]
        if len(batches) >= steps:
            return batches[:steps]
    raise SystemExit(f"--shots {options.shots} gives less than one batch of {options.batch_size}. Raise it.")


def trainer(ready: Prepared, batches: list[Any]) -> Callable[[], float]:
    """Return a function that trains a new student on `batches` and returns its steps per second."""
    preprocess, options = ready.preprocess, ready.options
    targets = teach(ready, build_backbone(ready)).targets
    return_freed_memory()
    accelerator = make_accelerator(options.device)
    clock = clock_of(accelerator.device)
    data = Data(lambda epoch: batches, len(batches), val=list)
    schedule = Schedule(epochs=2, batch_size=options.batch_size, lr=1e-3)  # the first epoch warms up

    def run() -> float:
        backbone = build_backbone(ready)
        width = feature_dim(backbone, preprocess.img_size)
        classes = len(ready.images.classes)
        method = build_method(MethodInputs(backbone, width, preprocess.img_size, classes, options, targets))
        ends: list[float] = []
        train(backbone, method, data, schedule, 0, accelerator, log=lambda _metrics: ends.append(clock()))
        return len(batches) / (ends[1] - ends[0])

    return run


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return the clock: CPU time on a CPU, otherwise wall time."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def fill_cache(arguments: argparse.Namespace) -> None:
    for ready in (prepared(arguments, method) for method in METHODS):
        gather_features(ready.images, ready.preprocess, build_backbone(ready), ready.options)


def step_rates(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Measure the steps per second by method, one number per round."""
    batches = decoded_batches(prepared(arguments, "ce"), arguments.steps)
    runs = {name: trainer(prepared(arguments, name), batches) for name in METHODS}
    rounds = [{name: run() for name, run in runs.items()} for _ in range(arguments.rounds)]
    return {name: [rates[name] for rates in rounds] for name in METHODS}


def training_memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Measure the peak of training in 10^6 bytes, above the memory before it, and in total."""
    ready = prepared(arguments, arguments.part.partition(":")[2])
    batches = decoded_batches(ready, arguments.steps)
    fit_coordinates(_features(ROWS_AT_ONCE))  # loads the memory that libraries keep, which no method causes
    return_freed_memory()
    before_mb = psutil.Process().memory_info().rss / 1e6 - _code_mb()
    run = trainer(ready, batches)
    watch = Stopwatch()
    with watch.stage("training"):
        run()
    peak_mb = watch.stages[0].peak_memory_mb
    if torch.cuda.is_available() and arguments.device != "cpu":
        return {"training": torch.cuda.max_memory_allocated() / 1e6, "process": peak_mb}
    return {"training": peak_mb - _code_mb() - before_mb, "process": peak_mb}


def _code_mb() -> float:
    """Return the memory of mapped files, mostly the libraries' code; 0 if the system does not report it."""
    return float(getattr(psutil.Process().memory_info(), "shared", 0)) / 1e6


def teacher_pass(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure images per second of the whole pass and of the bare model by round, and bytes per feature on disk."""
    ready = prepared(arguments, "tcs")
    options = ready.options
    images = replace(ready.images, val=ready.images.val.subset([]))
    device = make_accelerator(options.device).device
    info = describe_teacher(options.teacher or "", options.teacher_weights, options.teacher_img_size)
    batches = _decoded_for_teacher(images, info.preprocess)
    module = build_teacher(info, device).module
    clock = clock_of(device)
    # On a CPU decode in this process, because the CPU time of other processes is not counted.
    workers = 0 if device.type == "cpu" else None
    rates: dict[str, list[float]] = {"pass": [], "bare": []}
    _forward(module, batches[:1], device)  # the first call loads code
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as cache:
            given = (options.teacher_weights, options.teacher_img_size, Path(cache))
            started = clock()
            done = teacher_features(images, options.teacher or "", *given, workers=workers, device=device)
            rates["pass"].append(len(images.train) / (clock() - started))
            on_disk = sum(path.stat().st_size for path in Path(cache).rglob("*") if path.is_file())
        started = clock()
        _forward(module, batches, device)
        rates["bare"].append(len(images.train) / (clock() - started))
    return {"images_per_second": rates, "bytes_per_feature": on_disk / done.train.size}


def _decoded_for_teacher(images: ImageSet, preprocess: Preprocess) -> list[torch.Tensor]:
    pixels = [preprocess(images.train.image(row)) for row in range(len(images.train))]
    return list(torch.from_numpy(np.stack(pixels)).split(ON_CPU))


@torch.inference_mode()
def _forward(module: torch.nn.Module, batches: list[torch.Tensor], device: torch.device) -> None:
    for batch in batches:
        module(batch.to(device)).cpu()


def coordinates_memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Measure the memory in 10^6 bytes for fitting coordinates to a stream of random features."""
    rows = FEATURE_ROWS * int(arguments.part.partition(":")[2])
    use_threads(arguments.threads)
    fit_coordinates(_features(ROWS_AT_ONCE))  # the first call loads code
    before_mb = psutil.Process().memory_info().rss / 1e6
    watch = Stopwatch()
    with watch.stage("coordinates"):
        fit_coordinates(_features(rows), 256)
    return {"images": rows, "memory": watch.stages[0].peak_memory_mb - before_mb, "before": before_mb}


def _features(rows: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    for start in range(0, rows, ROWS_AT_ONCE):
        yield torch.randn(min(ROWS_AT_ONCE, rows - start), FEATURE_DIM, generator=generator).half()


PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "passes": fill_cache,
    "rates": step_rates,
    "memory": training_memory,
    "teacher": teacher_pass,
    "coordinates": coordinates_memory,
}

"""What training with TCS costs beside cross-entropy, KD and SimKD, and what the teacher's pass costs.

    python benchmarks/cost.py --data photos/ --teacher dinov2 --student mobilenetv3_small_100 --img-size 64

Everything is measured in one run, on real images decoded beforehand, through the product's own code:

- step rates: the training loop, in turn (ce, tcs, kd, simkd, ce, ...), so that a machine that slows down slows all;
  a ratio is the median over the rounds, with the lowest and the highest. KD and SimKD keep the teacher in the loop.
  On a CPU a second is a second of this process's computing, so that other programs count little.
- training memory: a fresh process per method; the peak while training less what the process held before (images) and
  less the libraries' code, so the teacher counts where it stays in memory. On a GPU: the most that torch took there.
- teacher: the whole pass (loading, decoding, checking, writing the cache) against the bare model on decoded batches.
- coordinates: memory that fitting them takes at 1x and 10x images, each in a fresh process.

Prints a table and writes JSON; exits 1 where a limit is missed. Every limit is an option.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.data.augment import Augment
from tcs_edge.data.loader import training_loader
from tcs_edge.files import write_json
from tcs_edge.knowledge import gather_features, make_knowledge
from tcs_edge.preparation import Prepared, prepare, settle_options
from tcs_edge.progress import Silent
from tcs_edge.stopwatch import Stopwatch
from tcs_edge.students.build import build_student, feature_dim
from tcs_edge.tcs.coordinates import fit_coordinates
from tcs_edge.teachers.features import BATCH_SIZE, teacher_features
from tcs_edge.teachers.load import build_teacher, describe_teacher
from tcs_edge.threads import use_threads
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.budget import Budget
from tcs_edge.training.distil import make_method
from tcs_edge.training.loop import Data, train

METHODS: dict[str, dict[str, Any]] = {
    "ce": {"method": "ce"},
    "tcs": {"method": "tcs"},
    "kd": {"method": "kd", "teacher_in_loop": True},
    "simkd": {"method": "simkd", "teacher_in_loop": True},
}
VAL_IMAGES = 64
FEATURE_ROWS, FEATURE_DIM, ROWS_AT_ONCE = 20_000, 384, 4096


@dataclass(frozen=True)
class Promise:
    """A figure with its limit; `at_least` says on which side of it the figure must lie."""

    name: str
    value: float
    limit: float
    at_least: bool
    detail: str

    @property
    def kept(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def line(self) -> str:
        wanted = f"{'>=' if self.at_least else '<='} {self.limit:g}"
        return f"{'ok' if self.kept else 'MISSED':<7}{self.name:<44}{self.value:>8.3f}  {wanted:<9} {self.detail}"


def main() -> int:
    arguments = parse_arguments()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part.partition(":")[0]](arguments)))
        return 0
    with tempfile.TemporaryDirectory() as cache:
        arguments.cache_dir = arguments.cache_dir or Path(cache)
        measured = measure(arguments)
    promises = judge(measured, arguments)
    print("\n".join(promise.line() for promise in promises))
    document = {"schema_version": 1, "settings": {name: str(value) for name, value in vars(arguments).items()}}
    results = [{**vars(promise), "kept": promise.kept} for promise in promises]
    write_json(arguments.out, document | {"measured": measured, "promises": results})
    return 0 if all(promise.kept for promise in promises) else 1


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every part in a process of its own; the first one fills the cache, so that no other sees the teacher's pass."""
    ask(arguments, "passes")
    return {
        "steps_per_second": ask(arguments, "rates"),
        "memory_mb": {name: ask(arguments, f"memory:{name}") for name in METHODS},
        "teacher": ask(arguments, "teacher"),
        "coordinates": {factor: ask(arguments, f"coordinates:{factor}") for factor in ("1", "10")},
    }


def ask(arguments: argparse.Namespace, part: str) -> Any:
    """What this script answers for `part`, in a fresh process."""
    sys.stderr.write(f"measuring {part}\n")
    command = [sys.executable, __file__, *sys.argv[1:], "--cache-dir", str(arguments.cache_dir), "--part", part]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    sys.stderr.write(f"  {json.dumps(answer)}\n")  # so that a run that is stopped still leaves what it found
    return answer


def prepared(arguments: argparse.Namespace, method: str) -> Prepared:
    """A few real images, a student and all options of `method`, as `compress` would settle them."""
    names = ("data", "teacher", "teacher_weights", "teacher_img_size", "student", "img_size", "batch_size")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    machine = {"device": arguments.device, "threads": arguments.threads, "cache_dir": arguments.cache_dir}
    fixed = {"target": "x86-avx2", "student_init": "random", "shots": arguments.shots, "workers": 0}
    ready = prepare(settle_options(given | machine | fixed | METHODS[method], None, None), Silent())
    use_threads(arguments.threads)
    val = ready.images.val.subset(range(min(VAL_IMAGES, len(ready.images.val))))
    return replace(ready, images=replace(ready.images, val=val))


def decoded_batches(ready: Prepared, steps: int) -> list[Any]:
    """`steps` training batches of real images, augmented and kept."""
    options = ready.options
    augment = Augment(options.augment or "none", ready.preprocess)
    batches: list[Any] = []
    for epoch in range(steps):
        loader = training_loader(ready.images.train, augment, options.batch_size, 0, epoch)
        batches += [batch for batch in loader if len(batch[0]) == options.batch_size]
        if len(batches) >= steps:
            return batches[:steps]
    raise SystemExit(f"--shots {options.shots} gives less than one batch of {options.batch_size}: raise it.")


def trainer(ready: Prepared, batches: list[Any]) -> Callable[[], float]:
    """A function that trains a fresh student on `batches` and returns its steps per second."""
    images, preprocess, options = ready.images, ready.preprocess, ready.options
    student = partial(build_student, ready.student.name, preprocess.img_size, "random", 0)
    features = gather_features(images, preprocess, student(), options, Silent())
    knowledge = make_knowledge(features, images, preprocess, options, Silent()) if features else None
    del features  # as the pipeline does
    accelerator = make_accelerator(options.device)
    clock = clock_of(accelerator.device)
    data = Data(lambda epoch: batches, len(batches), val=list)
    budget = Budget(epochs=2, batch_size=options.batch_size, lr=1e-3)  # the first epoch warms up

    def run() -> float:
        backbone = student()
        width = feature_dim(backbone, preprocess.img_size)
        method = make_method(options, backbone, width, len(images.classes), preprocess.img_size, knowledge)
        ends: list[float] = []
        train(backbone, method, data, budget, 0, accelerator, log=lambda _metrics: ends.append(clock()))
        return len(batches) / (ends[1] - ends[0])

    return run


def clock_of(device: torch.device) -> Callable[[], float]:
    """Seconds: of computing on a CPU, wall time where another device computes."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def fill_cache(arguments: argparse.Namespace) -> None:
    for ready in (prepared(arguments, method) for method in METHODS):
        backbone = build_student(ready.student.name, ready.preprocess.img_size, "random", 0)
        gather_features(ready.images, ready.preprocess, backbone, ready.options, Silent())


def step_rates(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Steps per second by method, one number per round."""
    batches = decoded_batches(prepared(arguments, "ce"), arguments.steps)
    runs = {name: trainer(prepared(arguments, name), batches) for name in METHODS}
    rounds = [{name: run() for name, run in runs.items()} for _ in range(arguments.rounds)]
    return {name: [rates[name] for rates in rounds] for name in METHODS}


def training_memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Peak of training in 10^6 bytes, above what the process held before, and in all."""
    ready = prepared(arguments, arguments.part.partition(":")[2])
    batches = decoded_batches(ready, arguments.steps)
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
    """What this process holds of files, which is its libraries' code; 0 where the system does not say."""
    return float(getattr(psutil.Process().memory_info(), "shared", 0)) / 1e6


def teacher_pass(arguments: argparse.Namespace) -> dict[str, Any]:
    """Images per second of the whole pass and of the bare model, by round; bytes that a feature takes on disk."""
    ready = prepared(arguments, "tcs")
    options = ready.options
    images = replace(ready.images, val=ready.images.val.subset([]))
    device = make_accelerator(options.device).device
    info = describe_teacher(options.teacher or "", options.teacher_weights, options.teacher_img_size)
    batches = _decoded_for_teacher(images, info.preprocess)
    module = build_teacher(info, device).module
    clock = clock_of(device)
    # In this process on a CPU: what decoding processes compute would not be counted.
    workers = 0 if device.type == "cpu" else None
    rates: dict[str, list[float]] = {"pass": [], "bare": []}
    _forward(module, batches[:1], device)  # what the first call loads is neither's
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
    return list(torch.from_numpy(np.stack(pixels)).split(BATCH_SIZE))


@torch.inference_mode()
def _forward(module: torch.nn.Module, batches: list[torch.Tensor], device: torch.device) -> None:
    for batch in batches:
        module(batch.to(device)).cpu()


def coordinates_memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Memory in 10^6 bytes that fitting coordinates takes, over a stream of features made up on the way."""
    rows = FEATURE_ROWS * int(arguments.part.partition(":")[2])
    use_threads(arguments.threads)
    fit_coordinates(_features(ROWS_AT_ONCE))  # what the first call loads is not the stage's
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


def judge(measured: dict[str, Any], limits: argparse.Namespace) -> list[Promise]:
    """Every promise with its figure."""
    rates, teacher = measured["steps_per_second"], measured["teacher"]
    memory = {name: found["training"] for name, found in measured["memory_mb"].items()}
    fitted = {factor: found["memory"] + found["before"] for factor, found in measured["coordinates"].items()}
    held = ", ".join(f"{name} {value:.0f}" for name, value in memory.items())
    return [
        _ratio("step rate, tcs / ce", rates["tcs"], rates["ce"], limits.min_rate_ce),
        _ratio("step rate, tcs / kd with the teacher", rates["tcs"], rates["kd"], limits.min_rate_loop),
        _ratio("step rate, tcs / simkd with the teacher", rates["tcs"], rates["simkd"], limits.min_rate_loop),
        Promise("training memory, tcs / ce", memory["tcs"] / memory["ce"], limits.max_memory_ce, False, f"MB: {held}"),
        Promise("training memory, tcs / kd with the teacher", memory["tcs"] / memory["kd"],
                limits.max_memory_loop, False, f"MB: {held}"),
        _ratio("teacher pass / bare model", *teacher["images_per_second"].values(), limits.min_teacher),
        Promise("cache, bytes per feature", teacher["bytes_per_feature"], limits.max_bytes, False, ""),
        Promise("fitting coordinates, memory at 10x / 1x images", fitted["10"] / fitted["1"],
                limits.max_growth, False, f"MB: {fitted['1']:.0f} and {fitted['10']:.0f}, libraries included"),
    ]  # fmt: skip


def _ratio(name: str, ours: list[float], theirs: list[float], limit: float) -> Promise:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} rounds"
    rates = f"{statistics.median(ours):.3g} and {statistics.median(theirs):.3g} per s"
    return Promise(name, statistics.median(ratios), limit, True, f"{spread}; {rates}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="image folder; without it, the built-in digits")
    parser.add_argument("--teacher", help="as for compress")
    parser.add_argument("--teacher-weights", type=Path)
    parser.add_argument("--teacher-img-size", type=int)
    parser.add_argument("--student", default="mobilenetv3_small_100")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--shots", type=int, default=50, help="training images per class that are used")
    parser.add_argument("--steps", type=int, default=4, help="per method and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache-dir", type=Path, help="where teacher features are kept; default: nowhere")
    parser.add_argument("--out", type=Path, default=Path("cost.json"))
    parser.add_argument("--min-rate-ce", type=float, default=0.95)
    parser.add_argument("--min-rate-loop", type=float, default=1.8)
    parser.add_argument("--max-memory-ce", type=float, default=1.05)
    parser.add_argument("--max-memory-loop", type=float, default=0.6)
    parser.add_argument("--min-teacher", type=float, default=0.9)
    parser.add_argument("--max-bytes", type=float, default=2.1)
    parser.add_argument("--max-growth", type=float, default=1.05)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

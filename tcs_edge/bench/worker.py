"""One run in its own process: `python -m tcs_edge.bench.worker FILE` runs the options in FILE.

Only a fresh process gives a meaningful peak memory. The teacher's pass has another process, so that its memory does
not count as the training's.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tcs_edge.bench.grid import DIVERGED, SCHEMA_VERSION, BenchRun, RunResult
from tcs_edge.data import ImageSet, Split
from tcs_edge.data.loader import evaluation_loader
from tcs_edge.errors import TcsEdgeError, TrainingDiverged
from tcs_edge.export.onnx import export_onnx
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.timing import time_runner
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.stages.prepare import Prepared, list_students
from tcs_edge.stages.targets import gather_features
from tcs_edge.stages.train import build_backbone, train_student
from tcs_edge.training.distill import FOLD_IMAGES, TrainingFiles
from tcs_edge.training.fold import deployed_cost
from tcs_edge.utils.files import write_json
from tcs_edge.utils.reading import read_json
from tcs_edge.utils.stopwatch import Stopwatch
from tcs_edge.utils.threads import use_threads

WARMUP_RUNS, TIMED_RUNS = 20, 100


def main(config_key: Path) -> int:
    """Run the options in the file `config_key` and write the result beside it as .json; return the exit code."""
    document = read_json(config_key, SCHEMA_VERSION)
    try:
        run = BenchRun(
            document["arm"],
            ResolvedConfig.model_validate(document["options"]),
            document["of_grid"],
            tuple(document["inputs"].items()),
        )
        found = run_pass(run) if document["pass"] else train_run(run, config_key)
    except TcsEdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    result = {"schema_version": SCHEMA_VERSION, **run.config_key(), "found": found}
    write_json(config_key.with_suffix(".json"), result)
    return 0


def run_pass(run: BenchRun) -> dict[str, float]:
    """Cache the teacher's features of the run's images; return duration and memory of the pass."""
    ready = _ready(run)
    features = gather_features(ready.images, ready.preprocess, build_backbone(ready), ready.options)
    return {"seconds": features.pass_seconds if features else 0.0, "peak_memory_mb": process_peak_memory_mb()}


def train_run(run: BenchRun, config_key: Path) -> dict[str, object]:
    """Train, then evaluate once on the test images; the training's files are beside `config_key`.

    A run of a grid of learning rates that diverges returns the message alone.
    """
    whole = _ready(run)
    ready = replace(whole, images=_with_less_validation(whole.images))
    files = TrainingFiles(*(config_key.with_suffix(end) for end in (".state", ".metrics.jsonl", ".selection")))
    watch = Stopwatch()
    try:
        model = train_student(ready, files, watch=watch)
    except TrainingDiverged as error:
        if not run.of_grid:
            raise
        _remove(files)
        return {DIVERGED: str(error)}
    seconds = {stage.name: stage.seconds for stage in watch.stages}
    peak_mb = process_peak_memory_mb()
    params_m, macs_m = deployed_cost(model, ready.preprocess.img_size)
    onnx_mb, latency_ms = _deploy(model, config_key.with_suffix(".onnx"), ready)
    found = RunResult(
        correct=_correct(model, whole, whole.images.test),
        train_seconds=seconds["distill"],
        peak_memory_mb=peak_mb,
        peak_gpu_mb=torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0,
        params_m=params_m,
        macs_m=macs_m,
        onnx_mb=onnx_mb,
        latency_ms=latency_ms,
        threads=ready.options.threads,
        train_images=len(ready.images.train),
        val_accuracy=(marks := _correct(model, whole, whole.images.val)).count("1") / len(marks),
    )
    _remove(files)
    return found.to_json()


def _remove(files: TrainingFiles) -> None:
    for path in (files.checkpoint, files.selection):
        path.unlink(missing_ok=True)


def process_peak_memory_mb() -> float:
    """Largest resident size of this process so far, in 10^6 bytes."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _ready(run: BenchRun) -> Prepared:
    ready = list_students(run.options).prepared()
    use_threads(ready.options.threads)
    return ready


def _with_less_validation(images: ImageSet) -> ImageSet:
    """Return images with fewer validation images, spread evenly: no more than training images or `FOLD_IMAGES`.

    They are only for the log of the epochs, and would dominate the time of an epoch on few shots.
    """
    count = min(len(images.val), max(FOLD_IMAGES, len(images.train)))
    rows = np.arange(count) * len(images.val) // count
    return replace(images, val=images.val.subset(rows))


def _deploy(model: nn.Module, path: Path, ready: Prepared) -> tuple[float, float]:
    """Export the model and remove the file again; return its size in 10^6 bytes and its latency in ms per image."""
    preprocess = ready.preprocess
    export_onnx(model, path, preprocess.img_size, labels=ready.images.classes, preprocess=preprocess.to_json())
    image = preprocess(ready.images.test.image(0))[None]
    try:
        with OrtRunner(path, ready.options.threads) as runner:
            sample = time_runner(lambda: runner.run(image), WARMUP_RUNS, TIMED_RUNS)
            return path.stat().st_size / 1e6, sample.p50_ms
    finally:
        path.unlink()


@torch.inference_mode()
def _correct(model: nn.Module, ready: Prepared, split: Split) -> str:
    """Return one character per image of `split`, "1" for a correct class."""
    options = ready.options
    loader = evaluation_loader(split, ready.preprocess, options.batch_size, options.workers)
    right = [model(pixels).argmax(dim=1) == labels for pixels, labels, _ in loader]
    return "".join("1" if one else "0" for one in torch.cat(right).tolist())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

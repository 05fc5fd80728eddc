"""One cell, in a process of its own: `python -m tcs_edge.bench.cell FILE` answers the question in FILE.

A fresh process makes the peak memory mean something. The teacher's pass has its own process too, so
that its memory is not counted as the training's.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tcs_edge.bench.cells import SCHEMA_VERSION, Cell, Found
from tcs_edge.data import ImageSet
from tcs_edge.data.loader import evaluation_loader
from tcs_edge.errors import DataError, TcsEdgeError
from tcs_edge.files import read_json, write_json
from tcs_edge.knowledge import gather_features, make_knowledge
from tcs_edge.preparation import Prepared, prepare
from tcs_edge.progress import Silent
from tcs_edge.specs.config import CompressConfig
from tcs_edge.stopwatch import Stopwatch
from tcs_edge.students.build import build_student, feature_dim
from tcs_edge.threads import use_threads
from tcs_edge.training.deployed import deployed_cost, save_deployed
from tcs_edge.training.distil import TrainingFiles, distil


def main(question: Path) -> int:
    """Answer `question` beside it, in a file that ends in .json; the exit code is the error's."""
    document = read_json(question, SCHEMA_VERSION)
    answer = question.with_suffix(".json")
    try:
        cell = Cell(document["arm"], CompressConfig.model_validate(document["options"]), document["shots"])
        found = run_pass(cell) if document["pass"] else run_cell(cell, question.with_suffix(""))
    except TcsEdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    write_json(answer, {"schema_version": SCHEMA_VERSION, **cell.question(), "found": found})
    return 0


def run_pass(cell: Cell) -> dict[str, float]:
    """Let the teacher see the cell's images, so that its answers are cached; seconds and memory of that."""
    ready, backbone = _ready(cell)
    features = gather_features(ready.images, ready.preprocess, backbone, ready.options, Silent())
    return {"seconds": features.pass_seconds if features else 0.0, "peak_memory_mb": peak_memory_mb()}


def run_cell(cell: Cell, files: Path) -> dict[str, object]:
    """Train, and only then look at the test images, once."""
    ready, backbone = _ready(cell)
    images, preprocess, options = ready.images, ready.preprocess, ready.options
    features = gather_features(images, preprocess, backbone, options, Silent())
    knowledge = make_knowledge(features, images, preprocess, options, Silent()) if features else None
    width = feature_dim(backbone, preprocess.img_size)
    traces = TrainingFiles(*(files.with_suffix(end) for end in (".state", ".metrics.jsonl", ".selection")))
    watch = Stopwatch()
    with watch.stage("distil"):
        model = distil(backbone, width, images, preprocess, knowledge, options, traces, False, Silent())
    peak_mb = peak_memory_mb()
    weights = files.with_suffix(".weights")
    save_deployed(weights, model)
    params_m, macs_m = deployed_cost(model, preprocess.img_size)
    found = Found(
        correct=_correct(model, ready),
        train_seconds=watch.stages[0].seconds,
        peak_memory_mb=peak_mb,
        peak_gpu_mb=torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0,
        params_m=params_m,
        macs_m=macs_m,
        weights_mb=weights.stat().st_size / 1e6,
        train_images=len(images.train),
    )
    for trace in (traces.checkpoint, traces.selection, weights):
        trace.unlink(missing_ok=True)
    return found.to_json()


def few_shot(images: ImageSet, shots: int, seed: int) -> ImageSet:
    """`images` with `shots` training images of every class; validation and test stay whole.

    Raises:
        DataError: a class has fewer.
    """
    rng = np.random.default_rng([seed, shots])
    rows: list[int] = []
    for label, name in enumerate(images.classes):
        own = np.flatnonzero(images.train.labels == label)
        if len(own) < shots:
            raise DataError(f"class {name} has {len(own)} training images, --shots asks for {shots}.")
        rows += sorted(rng.choice(own, shots, replace=False).tolist())
    return replace(images, train=images.train.subset(rows))


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in 10^6 bytes."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _ready(cell: Cell) -> tuple[Prepared, nn.Module]:
    ready = prepare(cell.options, Silent())
    if cell.shots:
        ready = replace(ready, images=few_shot(ready.images, cell.shots, cell.options.seed))
    options = ready.options
    use_threads(options.threads or 1)
    return ready, build_student(ready.student.name, ready.preprocess.img_size, ready.init, options.seed)


@torch.inference_mode()
def _correct(model: nn.Module, ready: Prepared) -> str:
    options = ready.options
    loader = evaluation_loader(ready.images.test, ready.preprocess, options.batch_size, options.workers or 0)
    right = [model(pixels).argmax(dim=1) == labels for pixels, labels, _ in loader]
    return "".join("1" if one else "0" for one in torch.cat(right).tolist())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

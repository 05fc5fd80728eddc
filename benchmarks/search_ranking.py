"""Measure how well each search ranks students: Spearman's correlation with the accuracy of full runs.

    python benchmarks/search_ranking.py --config tcs-edge.toml --students lcnet_050 resnet18 ... --out ranking.json

The config file has the options of a `compress` run (target, data, teacher, student_init, epochs, ...). The table,
alignment and halving rank all students. Each search is timed after the teacher's pass. Then every student is trained
in full. The final accuracy is that on the test images, which no search uses. The result is written after each
student. Run the same command again to continue. Alignment is left out for students with random weights. To time it
without cached features of students, set a new `cache_dir`.

Without pretrained weights, make some with a first call on other images: `--searches table --keep WEIGHTS` writes
every student's backbone after its full run. Pass WEIGHTS as `student_init` to the second call.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from scipy.stats import spearmanr

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.data.loader import evaluation_loader
from tcs_edge.project.read import read_options
from tcs_edge.report.console import terminal
from tcs_edge.search.student import resolve_search, select
from tcs_edge.stages.prepare import Shortlist, list_students
from tcs_edge.stages.targets import teacher_pass
from tcs_edge.stages.train import build_backbone, train_student
from tcs_edge.students.choice import Assessment, Choice
from tcs_edge.training.distill import TrainingFiles
from tcs_edge.utils.files import atomic_path, make_folder, write_json
from tcs_edge.utils.reading import read_json
from tcs_edge.utils.threads import use_threads

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
SEARCHES = ("table", "alignment", "halving")
FEWEST = 3  # a rank correlation of two students is always 1 or -1


def main() -> None:
    given = parse_arguments()
    listed = only(list_students(read_options({"student": "auto"}, given.config, None)), given)
    options = listed.prepared().options
    use_threads(options.threads)
    document = read_json(given.out, SCHEMA_VERSION) if given.out.exists() else start(listed)
    teacher_pass(listed.images, options)
    for search in given.searches or searches(listed):
        if search not in document["searches"]:
            document["searches"][search] = found = searched(listed, search)
            write_json(given.out, document)
            print(f"{search}: {len(found['ranking'])} students in {found['seconds']:.1f} s", flush=True)
    if given.searches_only:
        return
    for found in listed.choice.accepted:
        name = found.candidate.name
        if name not in document["final_accuracy"]:
            document["final_accuracy"][name] = final_accuracy(listed, found, given.keep)
            write_json(given.out, document)
    print_ranking(document)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="options of a compress run, as TOML")
    parser.add_argument("--students", nargs="+", help="candidates to rank; default all that fit")
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, help="default: all that are possible")
    parser.add_argument("--searches-only", action="store_true", help="stop after the searches, to time them")
    parser.add_argument("--keep", type=Path, help="folder for the trained backbones, NAME.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="result file; an existing one is continued")
    return parser.parse_args()


def only(listed: Shortlist, given: argparse.Namespace) -> Shortlist:
    """Return the run with only these students as candidates."""
    accepted = tuple(a for a in listed.choice.accepted if not given.students or a.candidate.name in given.students)
    if len(accepted) < max(FEWEST, len(given.students or ())):
        names = ", ".join(a.candidate.name for a in listed.choice.accepted)
        raise SystemExit(
            f"only {len(accepted)} of the requested students fit, at least {FEWEST} are needed. Fitting: {names}"
        )
    return replace(listed, choice=Choice(accepted[0], accepted, listed.choice.rejected))


def start(listed: Shortlist) -> dict[str, Any]:
    images = {"name": listed.images.name, "fingerprint": listed.images.fingerprint, "counts": listed.images.counts()}
    options = listed.asked.model_dump(mode="json", exclude_none=True, exclude={"student", "search"})
    return {
        "schema_version": SCHEMA_VERSION,
        "images": images,
        "options": options,
        "searches": {},
        "final_accuracy": {},
    }


def searches(listed: Shortlist) -> tuple[str, ...]:
    return ("table", "halving") if listed.init == "random" else SEARCHES


def searched(listed: Shortlist, search: str) -> dict[str, Any]:
    """Run a search; return its seconds and every student with its figure, best first. All must have a figure."""
    started = time.perf_counter()
    listed = replace(listed, asked=listed.asked.replaced(search=search))
    ready = select(listed, resolve_search(listed))
    measured = {"seconds": time.perf_counter() - started, "load_average": os.getloadavg()[0]}
    expected = {found.candidate.name: found.expected for found in ready.choice.accepted}
    for name, figure in expected.items():
        if figure is None or figure.search != search:
            raise SystemExit(f"{name} has no figure by {search}: {figure.how if figure else 'not in the table'}")
    return measured | {"ranking": {name: figure.to_json() for name, figure in expected.items() if figure}}


def final_accuracy(listed: Shortlist, found: Assessment, keep: Path | None) -> float:
    """Train one student in full, optionally keep its backbone, and return its test accuracy in 0..1."""
    logger.info(f"full run of {found.candidate.name}")
    ready = listed.prepared(replace(listed.choice, winner=found))
    backbone = build_backbone(ready)
    with tempfile.TemporaryDirectory() as folder:
        files = TrainingFiles(*(Path(folder) / name for name in ("state", "metrics", "selection")))
        model = train_student(ready, files, backbone)
    if keep:
        make_folder(keep)
        state = {key: value.detach().cpu().contiguous() for key, value in backbone.state_dict().items()}
        with atomic_path(keep / f"{ready.student.name}.safetensors") as draft:
            save_file(state, draft)
    return accuracy(model, ready.images, ready.preprocess)


def accuracy(model: torch.nn.Module, images: ImageSet, preprocess: Preprocess) -> float:
    model = model.cpu().eval()
    right = 0
    with torch.inference_mode():
        for batch, labels, _ in evaluation_loader(images.test, preprocess, batch_size=64):
            right += int((model(batch).argmax(dim=1) == labels).sum())
    return right / len(images.test)


def print_ranking(document: dict[str, Any]) -> None:
    final = document["final_accuracy"]
    for name in sorted(final, key=final.get, reverse=True):
        figures = "  ".join(
            f"{search} {found['ranking'][name]['percent']:5.1f}" for search, found in document["searches"].items()
        )
        print(f"{name:32} final {100 * final[name]:5.1f} %   {figures}")
    for search, found in document["searches"].items():
        # Use the place in the ranking, because figures of different halving rounds have different scales.
        places = {name: place for place, name in enumerate(found["ranking"])}
        correlation = spearmanr([-places[name] for name in final], list(final.values())).statistic
        print(f"{search:10} Spearman {correlation:.3f} over {len(final)} students, {found['seconds']:.1f} s")


if __name__ == "__main__":
    with terminal():
        main()

"""Retrieval with the embedding of a student, and accuracy of classes that are added from a few photos.

    python benchmarks/embeddings.py DATA --held-out metal --seed 0 --out results.jsonl -- --teacher NAME --epochs 8 ...

Options behind -- are those of `tcs-edge compress`. The student is trained without the held-out classes, and is not
exported. One line per set and seed is appended to the results; a line that is there is not measured again.

mAP: every test image is a query, the other test images are ranked by cosine, and images of its class are relevant.
Added classes: means of photos drawn from the training images of the held-out classes, by the rule of the bundle.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tcs_edge.bundle.known_classes import MARGIN_IMAGES, MEAN_IMAGES
from tcs_edge.bundle.programs import device_module
from tcs_edge.data import ImageSet, Preprocess, Split, load_images
from tcs_edge.pipeline.processes import prepare
from tcs_edge.project.read import read_options
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.stages.train import build_backbone, teach, train_student
from tcs_edge.students.embedding import StudentWithEmbedding, coordinates_of
from tcs_edge.teachers.source import run_features
from tcs_edge.training.distill import TrainingFiles
from tcs_edge.utils.stopwatch import Stopwatch

PHOTOS, DRAWS, POOL = (1, 5, 20), 10, 40
SPACES = ("coordinates", "features", "teacher")
edge_arrays, edge_classes = device_module("edge_arrays"), device_module("edge_classes")


def per_class(labels: np.ndarray, most: int) -> list[int]:
    """Return at most `most` rows of every class, the first ones."""
    return sorted(row for label in np.unique(labels) for row in np.flatnonzero(labels == label)[:most].tolist())


def embed(runner: TorchRunner, images: Split, preprocess: Preprocess) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and embeddings of all images."""
    made = [runner.outputs(preprocess(images.image(row))[None]) for row in range(len(images))]
    return tuple(np.concatenate(part) for part in zip(*made, strict=True))


def mean_average_precision(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the average precision (N,) of every image as a query among the others; NaN if it is alone in its class."""
    unit = edge_arrays.unit_rows(embeddings)
    cosines = unit @ unit.T
    found = np.full(len(labels), np.nan)
    for row in range(len(labels)):
        order = np.argsort(-cosines[row], kind="stable")
        relevant = labels[order[order != row]] == labels[row]
        if relevant.any():
            hits = np.cumsum(relevant)[relevant]
            found[row] = (hits / (np.flatnonzero(relevant) + 1)).mean()
    return found


def added_accuracy(
    known: Any, names: list[str], photos: dict[str, np.ndarray], rows: dict[str, np.ndarray], count: int, seed: int
) -> dict[str, float]:
    """Accuracies after all held-out classes were added from `count` photos each.

    Args:
        photos: embeddings of the photos of each held-out class.
        rows: of the test images: "embeddings", "guesses" of the model among `names`, and "truth", class names.
    """
    draw = np.random.default_rng(seed)
    classes = edge_classes.AddedClasses(known, names, ["0" * 64])
    for name, own in photos.items():
        chosen = draw.choice(len(own), min(count, len(own)), replace=False)
        classes, _ = classes.add(name, own[chosen])
    answers = []
    for embedding, guess in zip(rows["embeddings"], rows["guesses"], strict=True):
        found = classes.find(embedding)
        answers.append(classes.names[found[0]] if found else names[guess])
    right = np.array(answers) == rows["truth"]
    new = np.isin(rows["truth"], list(photos))
    taken = np.isin(answers, list(photos))[~new]
    return {
        "added_recall": float(right[new].mean()),
        "known_accuracy": float(right[~new].mean()),
        "known_taken": float(taken.mean()),
        "accuracy": float(right.mean()),
    }


def summary(values: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return mean and standard deviation of every number over the draws."""
    return {
        name: [float(np.mean([one[name] for one in values])), float(np.std([one[name] for one in values], ddof=1))]
        for name in values[0]
    }


def embed_all(data: Path, held_out: list[str], seed: int, test: int, given: dict[str, Any]) -> dict[str, np.ndarray]:
    """Train one student without the held-out classes; return the embeddings of every space, and the labels."""
    asked = read_options(given | {"data": data, "seed": seed, "exclude": held_out}, None, None)
    ready = prepare(asked, Stopwatch())
    backbone = build_backbone(ready)
    taught = teach(ready, backbone)
    with tempfile.TemporaryDirectory() as folder:
        names = ("last.safetensors", "metrics.jsonl", "selection.json")
        files = TrainingFiles(*(Path(folder) / name for name in names))
        student = train_student(ready, files, backbone, taught)
    every = load_images(data, seed, (), asked.cache_dir, allow_leaks=True)  # `prepare` has refused them, or not
    images, names = ready.images, list(ready.images.classes)
    place = {name: label for label, name in enumerate(every.classes)}
    new = [place[name] for name in held_out]
    pool = [row for row in per_class(every.train.labels, POOL) if every.train.labels[row] in new]
    shown = every.test.subset(per_class(every.test.labels, test))
    pooled = every.train.subset(pool)
    means = images.train.subset(per_class(images.train.labels, MEAN_IMAGES))
    margins = images.val.subset(list(range(len(images.val)))[:MARGIN_IMAGES])
    parts = {"test": shown, "photos": pooled, "means": means, "margins": margins}
    spaces: dict[str, dict[str, np.ndarray]] = {}
    logits = np.zeros(0)
    for space, layer in (("coordinates", coordinates_of(student)), ("features", None)):
        runner = TorchRunner(StudentWithEmbedding(student, layer))
        found = {name: embed(runner, part, ready.preprocess) for name, part in parts.items()}
        spaces[space] = {name: embeddings for name, (_, embeddings) in found.items()}
        logits = found["test"][0]
    spaces["teacher"] = {}
    for one, other in (("test", "photos"), ("means", "margins")):
        pair = ImageSet(f"{every.name} {one}", every.classes, parts[one], parts[other], parts[other], fingerprint=one)
        features = run_features(pair, ready.options, torch.device("cpu"))
        spaces["teacher"] |= {one: np.float32(features.train), other: np.float32(features.val)}
    flat = {f"{space} {name}": values for space, found in spaces.items() for name, values in found.items()}
    return flat | {
        "guesses": logits.argmax(axis=1),
        "truth": np.array([every.classes[label] for label in shown.labels]),
        "names": np.array(names),
        "means_labels": means.labels,
        "photos_truth": np.array(every.classes)[pooled.labels],
    }


def evaluate(found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Measure retrieval and added classes, from the arrays of `embed_all`."""
    names, truth, guesses = found["names"].tolist(), found["truth"], found["guesses"]
    held_out = sorted(set(found["photos_truth"].tolist()))
    known_rows = ~np.isin(truth, held_out)
    document: dict[str, Any] = {
        "test_images": {"known": int(known_rows.sum()), "held_out": int((~known_rows).sum())},
        "accuracy_before": float((found["names"][guesses] == truth)[known_rows].mean()),
        "spaces": {},
    }
    for space in SPACES:
        test, photos, means, margins = (found[f"{space} {name}"] for name in ("test", "photos", "means", "margins"))
        precision = mean_average_precision(test, truth)
        units = edge_arrays.unit_rows(means)
        rows = [units[found["means_labels"] == label].mean(axis=0) for label in range(len(names))]
        known = edge_classes.Known(edge_arrays.unit_rows(np.stack(rows)), edge_arrays.unit_rows(margins))
        own = {name: photos[found["photos_truth"] == name] for name in held_out}
        answers = {"embeddings": test, "guesses": guesses, "truth": truth}
        document["spaces"][space] = {
            "size": test.shape[1],
            "map_known": float(np.nanmean(precision[known_rows])),
            "map_held_out": float(np.nanmean(precision[~known_rows])),
            "added": {
                str(count): summary([added_accuracy(known, names, own, answers, count, draw) for draw in range(DRAWS)])
                for count in PHOTOS
            },
        }
    return document


def main() -> None:
    own, _, rest = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--held-out", action="append", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", type=int, default=40, help="test images per class")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="folder of embeddings, to evaluate them again without training")
    arguments = parser.parse_args(own.split())
    words = rest.split()
    pairs = zip(words[::2], words[1::2], strict=True)
    given = {flag.removeprefix("--").replace("-", "_"): value for flag, value in pairs}
    key = {"set": arguments.data.name, "held_out": sorted(arguments.held_out), "seed": arguments.seed}
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    if any(key.items() <= json.loads(line).items() for line in lines):
        print(f"{key}: measured already")
        return
    kept = arguments.keep and arguments.keep / f"{arguments.data.name}-{arguments.seed}.npz"
    if kept and kept.exists():
        with np.load(kept, allow_pickle=False) as stored:
            found = dict(stored)
    else:
        found = embed_all(arguments.data, arguments.held_out, arguments.seed, arguments.test, given)
        if kept:
            np.savez(kept, **found)
    options = {name: Path(value).name for name, value in given.items() if name != "cache_dir"}
    with arguments.out.open("a") as file:
        file.write(json.dumps(key | {"options": options} | evaluate(found)) + "\n")


if __name__ == "__main__":
    main()

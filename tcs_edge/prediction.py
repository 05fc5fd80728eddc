"""Classifying pictures with a finished run, through the very files that are deployed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tcs_edge.data import Preprocess
from tcs_edge.data.decode import open_rgb
from tcs_edge.errors import DataError, ParityFailed
from tcs_edge.export.preprocess import read_labels
from tcs_edge.files import read_json
from tcs_edge.packaging.manifest import read_manifest
from tcs_edge.packaging.run_folder import find_run
from tcs_edge.runtimes.onnxruntime import OrtRunner


@dataclass(frozen=True)
class Guess:
    """A class name and its softmax probability, in [0, 1]."""

    label: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """A picture and its most probable classes, best first."""

    image: str
    guesses: tuple[Guess, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def predict(run: Path, images: Sequence[Path], top: int = 1) -> list[Answer]:
    """Classify `images` with the run's ONNX file, its labels.txt and its preprocess.json.

    Raises:
        ParityFailed: the run did not pass its validation.
        DataError: no such run or picture, or labels that do not fit the model.
    """
    folder = find_run(run)
    if read_manifest(folder.root).verdict != "pass" or not folder.export.is_dir():
        raise ParityFailed(f"{run} has no proven model: its validation failed. Run compress again.")
    labels = read_labels(folder.export / "labels.txt")
    preprocess = Preprocess.from_json(read_json(folder.export / "preprocess.json", schema_version=1))
    with OrtRunner(folder.export / "model.onnx") as runner:
        if runner.labels != labels:
            raise DataError(f"labels.txt of {run} is not the model's: it was changed. Run compress again.")
        return [_answer(path, runner.run(preprocess(open_rgb(path))[None]), labels, top) for path in images]


def _answer(path: Path, logits: np.ndarray, labels: Sequence[str], top: int) -> Answer:
    scores = logits[0].astype(np.float64)
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    best = np.argsort(-probabilities, kind="stable")[:top]
    return Answer(str(path), tuple(Guess(labels[row], float(probabilities[row])) for row in best))

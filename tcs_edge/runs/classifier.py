"""Classifying pictures with a finished run, through the very files that are deployed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from tcs_edge.data import Preprocess
from tcs_edge.data.decode import as_rgb, open_rgb
from tcs_edge.errors import DataError, ParityFailed, UnknownName
from tcs_edge.export.preprocess import read_labels
from tcs_edge.runs.folder import find_run
from tcs_edge.runs.manifest import read_manifest
from tcs_edge.runtimes.base import ClosingRunner, Runner
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.specs.artifacts import Precision, onnx_file
from tcs_edge.utils.files import read_json

DEFAULT_ARTIFACT = "model.onnx"
Picture: TypeAlias = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True)
class Guess:
    """A class name and its softmax probability, in [0, 1]."""

    label: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """A picture (its path, or its number among those given) and its most probable classes, best first."""

    image: str
    guesses: tuple[Guess, ...]

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.guesses[0].label

    @property
    def probability(self) -> float:
        """Softmax probability of the most probable class, in [0, 1]."""
        return self.guesses[0].probability

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Classifier(ClosingRunner):
    """One exported file of a run, with the class names and the preprocessing that belong to it.

    Attributes:
        classes: class names, in the order of the model's outputs.
        preprocess: what a picture goes through before the model sees it.
        artifact: the file, relative to the run's export folder.
    """

    def __init__(self, runner: Runner, classes: tuple[str, ...], preprocess: Preprocess, artifact: str) -> None:
        self.classes = classes
        self.preprocess = preprocess
        self.artifact = artifact
        self._runner = runner

    def predict(self, images: Picture | Iterable[Picture], top: int = 1) -> list[Answer]:
        """The `top` most probable classes of every picture, in the order given.

        Args:
            images: one picture or many: paths, Pillow images, or uint8 arrays (H, W, 3) in RGB.

        Raises:
            DataError: a picture that cannot be read.
        """
        pictures = _listed(images)
        names = [str(picture) if isinstance(picture, str | Path) else str(row) for row, picture in enumerate(pictures)]
        return [self._answer(name, row, top) for name, row in zip(names, self.probabilities(pictures), strict=True)]

    def probabilities(self, images: Picture | Iterable[Picture]) -> np.ndarray:
        """Softmax probabilities, float64 (N, classes), columns as in `classes`; pictures as for `predict`.

        Raises:
            DataError: a picture that cannot be read.
        """
        rows = [self._runner.run(self.preprocess(_opened(picture))[None])[0] for picture in _listed(images)]
        scores = np.array(rows, dtype=np.float64).reshape(-1, len(self.classes))
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def close(self) -> None:
        """Free the model; the classifier cannot be used afterwards."""
        self._runner.close()

    def __repr__(self) -> str:
        return f"Classifier({self.artifact}, {len(self.classes)} classes, {self.preprocess.img_size} px)"

    def _answer(self, name: str, probabilities: np.ndarray, top: int) -> Answer:
        best = np.argsort(-probabilities, kind="stable")[:top]
        return Answer(name, tuple(Guess(self.classes[row], float(probabilities[row])) for row in best))


def load_classifier(run: Path, artifact: str = DEFAULT_ARTIFACT) -> Classifier:
    """Load an exported file of a run, its labels.txt and its preprocess.json.

    Args:
        artifact: a file of the run's export folder: "model.onnx", "openvino/model.xml".

    Raises:
        ParityFailed: the run did not pass its validation.
        UnknownName: no such model in the export folder.
        DataError: no such run, or labels that do not fit the model.
    """
    folder = find_run(run)
    if read_manifest(folder.root).verdict != "pass" or not folder.export.is_dir():
        raise ParityFailed(f"{run} has no proven model: its validation failed. Run compress again.")
    labels = tuple(read_labels(folder.export / "labels.txt"))
    preprocess = Preprocess.from_json(read_json(folder.export / "preprocess.json", schema_version=1))
    runner = _runner(folder.export, artifact)
    if runner.labels != labels:
        raise DataError(f"labels.txt of {run} is not the model's: it was changed. Run compress again.")
    return Classifier(runner, labels, preprocess, artifact)


def predict(run: Path, images: Sequence[Path], top: int = 1, precision: Precision = "fp32") -> list[Answer]:
    """Classify `images` with the run's ONNX file of `precision`.

    Raises:
        ParityFailed, UnknownName, DataError: as `load_classifier` and `Classifier.predict`.
    """
    with load_classifier(run, str(onnx_file(precision))) as classifier:
        return classifier.predict(images, top)


def _runner(export: Path, artifact: str) -> Runner:
    models = [path.relative_to(export).as_posix() for path in export.rglob("*") if path.suffix in (".onnx", ".xml")]
    if artifact not in models:
        raise UnknownName("artifact", artifact, models)
    if artifact.endswith(".onnx"):
        return OrtRunner(export / artifact)
    from tcs_edge.runtimes.openvino import OpenVinoRunner  # half a second that onnxruntime's users need not wait

    return OpenVinoRunner(export / artifact)


def _listed(images: Picture | Iterable[Picture]) -> list[Picture]:
    one = isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4)
    return [images] if one else list(images)  # type: ignore[list-item, arg-type]


def _opened(picture: Picture) -> Image.Image:
    return open_rgb(Path(picture)) if isinstance(picture, str | Path) else as_rgb(picture)

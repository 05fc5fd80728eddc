"""Classify images with the exported files of a finished run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from tcs_edge.data import Preprocess
from tcs_edge.data.decode import as_rgb, open_rgb
from tcs_edge.errors import DataError, ParityFailed, UnknownName
from tcs_edge.export.preprocess import read_labels
from tcs_edge.runs.folder import RunFolder, find_run
from tcs_edge.runs.manifest import read_manifest, verify_exports
from tcs_edge.runs.schema import Manifest
from tcs_edge.runtimes.base import ClosingRunner, Runner, Runtime
from tcs_edge.runtimes.registry import runtime_for
from tcs_edge.specs.artifacts import Precision, onnx_file
from tcs_edge.specs.confidence import CONFIDENCE_FILE, Confidence, read_confidence
from tcs_edge.utils.reading import read_json

DEFAULT_ARTIFACT = "model.onnx"
BESIDE = ("labels.txt", "preprocess.json", CONFIDENCE_FILE)
ImageInput: TypeAlias = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True)
class Guess:
    """Class name and its softmax probability in [0, 1]."""

    label: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """Path or index of an image, and its most probable classes, the most probable first.

    `unknown` is True if the most probable class is below the run's threshold: likely an image of another class.
    """

    image: str
    guesses: tuple[Guess, ...]
    unknown: bool = False

    @property
    def label(self) -> str:
        """Most probable class."""
        return self.guesses[0].label

    @property
    def probability(self) -> float:
        """Softmax probability of the most probable class, in [0, 1]."""
        return self.guesses[0].probability

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Classifier(ClosingRunner):
    """One exported file of a run, with its class names and its preprocessing.

    Attributes:
        classes: class names, in the order of the model's outputs.
        preprocess: preprocessing of the model's input.
        artifact: the file, relative to the run's export folder.
        confidence: threshold for unknown images.
    """

    def __init__(
        self,
        runner: Runner,
        classes: tuple[str, ...],
        preprocess: Preprocess,
        artifact: str,
        confidence: Confidence,
    ) -> None:
        self.classes = classes
        self.preprocess = preprocess
        self.artifact = artifact
        self.confidence = confidence
        self._runner = runner

    def predict(self, images: ImageInput | Iterable[ImageInput], top: int = 1) -> list[Answer]:
        """Return the `top` most probable classes of every image, in the order of `images`.

        Args:
            images: one image or several: paths, Pillow images, or uint8 arrays (H, W, 3) in RGB.

        Raises:
            DataError: an image is not readable.
        """
        items = _listed(images)
        names = [str(item) if isinstance(item, str | Path) else str(row) for row, item in enumerate(items)]
        return [self._answer(name, row, top) for name, row in zip(names, self.probabilities(items), strict=True)]

    def probabilities(self, images: ImageInput | Iterable[ImageInput]) -> np.ndarray:
        """Return softmax probabilities, float64 (N, classes), columns as in `classes`; images as for `predict`.

        Raises:
            DataError: an image is not readable.
        """
        rows = [self._runner.run(self.preprocess(_opened(item))[None])[0] for item in _listed(images)]
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
        rule = self.confidence.unknown
        unknown = rule is not None and rule.holds(float(probabilities.max()))
        return Answer(name, tuple(Guess(self.classes[row], float(probabilities[row])) for row in best), unknown)


def load_classifier(run: Path, artifact: str = DEFAULT_ARTIFACT) -> Classifier:
    """Load an exported file of a run, its labels.txt, preprocess.json and confidence.json.

    Args:
        artifact: a file of the run's export folder: "model.onnx", "openvino/model.xml".

    Raises:
        ParityFailed: the run failed validation, or one of these files changed after it.
        UnknownName: the export folder has no such model.
        DataError: not a run, or labels.txt differs from the model's labels.
    """
    folder = find_run(run)
    manifest = read_manifest(folder.root)
    if manifest.verdict != "pass" or not folder.export.is_dir():
        raise ParityFailed(f"{run} has no validated model: it failed validation. Run compress again.")
    runtime = _runtime(folder.export, artifact)
    _require_unchanged(folder, manifest, run, (*_files(runtime, artifact), *BESIDE))
    labels = tuple(read_labels(folder.export / "labels.txt"))
    preprocess = Preprocess.from_json(read_json(folder.export / "preprocess.json", schema_version=1))
    runner = runtime.open(folder.export / artifact, 1)
    if runner.labels != labels:
        raise DataError(f"labels.txt of {run} differs from the labels in the model. Run compress again.")
    return Classifier(runner, labels, preprocess, artifact, read_confidence(folder.export / CONFIDENCE_FILE))


def predict(run: Path, images: Sequence[Path], top: int = 1, precision: Precision = "fp32") -> list[Answer]:
    """Classify `images` with the run's ONNX file of `precision`.

    Raises:
        ParityFailed, UnknownName, DataError: as `load_classifier` and `Classifier.predict`.
    """
    with load_classifier(run, str(onnx_file(precision))) as classifier:
        return classifier.predict(images, top)


def _runtime(export: Path, artifact: str) -> Runtime:
    models = [path.relative_to(export).as_posix() for path in export.rglob("*") if runtime_for(path)]
    runtime = runtime_for(PurePath(artifact))
    if runtime is None or artifact not in models:
        raise UnknownName("artifact", artifact, models)
    return runtime


def _files(runtime: Runtime, artifact: str) -> list[str]:
    """Return the files of a model, relative to the export folder: the main one and those beside it."""
    beside = runtime.own_format.beside if runtime.own_format else ()
    return [artifact, *(PurePosixPath(artifact).with_suffix(suffix).as_posix() for suffix in beside)]


def _require_unchanged(folder: RunFolder, manifest: Manifest, run: Path, names: Iterable[str]) -> None:
    if problems := verify_exports(folder.root, manifest, names):
        listed = ", ".join(f"{problem.path} ({problem.problem})" for problem in problems)
        raise ParityFailed(f"{run} changed after validation: {listed}. Run compress again.")


def _listed(images: ImageInput | Iterable[ImageInput]) -> list[ImageInput]:
    one = isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4)
    return [images] if one else list(images)  # type: ignore[list-item, arg-type]


def _opened(item: ImageInput) -> Image.Image:
    return open_rgb(Path(item)) if isinstance(item, str | Path) else as_rgb(item)

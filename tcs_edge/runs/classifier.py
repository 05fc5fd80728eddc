"""Classify images with the exported files of a finished run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from tcs_edge.data import Preprocess
from tcs_edge.data.inputs import ImageInput, each_image, image_files
from tcs_edge.errors import DataError, ParityFailed, UnknownName, UsageError
from tcs_edge.export.preprocess import read_labels
from tcs_edge.runs.folder import RunFolder, find_run
from tcs_edge.runs.manifest import advice_on, read_manifest, verify_exports
from tcs_edge.runs.schema import Manifest
from tcs_edge.runtimes.base import ClosingRunner, Runner, Runtime, outputs_of
from tcs_edge.runtimes.registry import runtime_for
from tcs_edge.specs.artifacts import CONFIDENCE_FILE, SIDECARS, Precision, onnx_file
from tcs_edge.specs.confidence import Confidence, read_confidence
from tcs_edge.utils.reading import read_json

DEFAULT_ARTIFACT = "model.onnx"


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


@dataclass(frozen=True)
class Unread:
    """Path of an image or folder that was not classified, and the reason."""

    image: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Classifier(ClosingRunner):
    """One exported file of a run, with its class names and its preprocessing.

    Attributes:
        classes: class names, in the order of the model's outputs.
        preprocess: preprocessing of the model's input.
        artifact: the file, relative to the run's export folder.
        confidence: threshold for unknown images.
        embedding_size: values of an embedding; 0 for a run without --with-embedding.
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
        self.embedding_size = runner.embedding_size
        self._runner = runner
        self._closed = False

    def predict(self, images: ImageInput | Iterable[ImageInput], top: int = 1) -> list[Answer]:
        """Return the `top` most probable classes of every image, in the order of `images`.

        Args:
            images: one image, or several in a list or another iterable. An image is

                - a path, as str or Path;
                - the content of an image file, as bytes, or a file opened in the mode "rb";
                - a Pillow image of any mode but "F";
                - a uint8 array with values in 0..255: (H, W) gray, (H, W, 3) in the order R, G, B, or (H, W, 4) with
                  alpha last. An array (N, H, W, 3 or 4) is N images.

                All are decoded as in training: upright by their EXIF data, transparency on white, 16-bit gray scaled.
            top: number of classes per image, at least 1.

        Raises:
            DataError: an image of another kind, or one that cannot be decoded; the message names it.
            UsageError: `top` is out of range, or the classifier is closed.
        """
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise UsageError(f"top must be a whole number of classes, at least 1, got {top!r}.")
        return [self._answer(name, self._probabilities(image), top) for name, image in each_image(images)]

    def probabilities(self, images: ImageInput | Iterable[ImageInput]) -> np.ndarray:
        """Return softmax probabilities, float64 (N, classes), columns as in `classes`; images as for `predict`.

        Raises:
            DataError, UsageError: as for `predict`.
        """
        rows = [self._probabilities(image) for _, image in each_image(images)]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.classes))

    def embeddings(self, images: ImageInput | Iterable[ImageInput]) -> np.ndarray:
        """Return embeddings, float32 (N, embedding_size); images as for `predict`.

        Like images have a cosine near 1.

        Raises:
            UsageError: the model has no embedding, or the classifier is closed.
            DataError: as for `predict`.
        """
        rows = [self._embedding(image) for _, image in each_image(images)]
        return np.array(rows, dtype=np.float32).reshape(-1, self.embedding_size)

    def close(self) -> None:
        """Free the model; the classifier cannot be used afterwards."""
        self._runner.close()
        self._closed = True

    def __repr__(self) -> str:
        return f"Classifier({self.artifact}, {len(self.classes)} classes, {self.preprocess.img_size} px)"

    def _embedding(self, image: Image.Image) -> np.ndarray:
        """Return the embedding, float32 (k,), of an RGB image."""
        self._require_open()
        embedding = outputs_of(self._runner, self.preprocess(image)[None])[1]
        if embedding is None:
            raise UsageError(f"{self.artifact} has no embedding. Run compress again, with --with-embedding.")
        return np.asarray(embedding[0])

    def _require_open(self) -> None:
        if self._closed:
            raise UsageError("this classifier is closed. Load the run again.")

    def _probabilities(self, image: Image.Image) -> np.ndarray:
        """Return softmax probabilities, float64 (classes,), of an RGB image."""
        self._require_open()
        scores = np.asarray(self._runner.run(self.preprocess(image)[None])[0], dtype=np.float64)
        raised = np.exp(scores - scores.max())
        return np.asarray(raised / raised.sum())

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
    _require_unchanged(folder, manifest, run, (*_files(runtime, artifact), *SIDECARS))
    labels = tuple(read_labels(folder.export / "labels.txt"))
    preprocess = Preprocess.from_json(read_json(folder.export / "preprocess.json", schema_version=1))
    runner = runtime.open(folder.export / artifact, 1)
    if runner.labels != labels:
        raise DataError(f"labels.txt of {run} differs from the labels in the model. Run compress again.")
    return Classifier(runner, labels, preprocess, artifact, read_confidence(folder.export / CONFIDENCE_FILE))


def predict_each(
    run: Path, paths: Iterable[Path], top: int = 1, precision: Precision = "fp32"
) -> Iterator[Answer | Unread]:
    """Classify files, and all images in folders, with the run's ONNX file of `precision`.

    An image that cannot be read does not stop the others.

    Raises:
        ParityFailed, UnknownName, DataError: as `load_classifier`.
    """
    with load_classifier(run, str(onnx_file(precision))) as classifier:
        for path in paths:
            try:
                files = image_files(path)
            except DataError as error:
                yield Unread(str(path), str(error))
                continue
            yield from (_answer_or_reason(classifier, file, top) for file in files)


def _answer_or_reason(classifier: Classifier, file: Path, top: int) -> Answer | Unread:
    try:
        return classifier.predict(file, top)[0]
    except DataError as error:
        return Unread(str(file), str(error))


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
        raise ParityFailed(f"{run} changed after validation: {listed}. {advice_on(problems)}")

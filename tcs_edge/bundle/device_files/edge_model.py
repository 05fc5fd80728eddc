"""Load the model of a bundle, and classify images with it.

From another program, with this folder in the import path:

    classifier = Classifier()
    answer = classifier.classify(open_rgb("photo.jpg"), top=3)   # [("cat", 0.93), ...]
    classifier.is_unknown(answer)   # True for an image that likely shows none of the classes
    classifier.embedding(open_rgb("photo.jpg"))   # float32 (k,), of a model with an embedding
"""

import hashlib
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
from edge_classes import CLASSES, KNOWN, AddedClasses, read_classes, read_known
from edge_preprocess import preprocess
from edge_runtimes import load_litert, load_ncnn, load_onnxruntime, load_openvino
from PIL import Image

HERE = Path(__file__).resolve().parent
LOADERS = {
    "onnxruntime": load_onnxruntime, "openvino": load_openvino, "ncnn": load_ncnn, "litert": load_litert,
}  # fmt: skip


class Classifier:
    """Model of a bundle folder, loaded into its runtime. Several threads may use it.

    Attributes:
        about: bundle.json. steps: preprocess.json.
        labels: class names, in the order of the logits, then the classes that were added on the device.
        embedding_size: values of an embedding; 0 for a model without one.
        own_classes: the model's own classes, to add others to; None without known_classes.npz.
        added: classes that were added on the device; None without any.
        unknown_below: threshold of the largest probability, in 0..1, for unknown images; None without one.
        files: path and sha256 of every file of the model, as loaded.
        runtime_version: version of the installed runtime.
        arithmetic: arithmetic of the runtime: "f32", "f16-weights", "f16" or "bf16".
    """

    def __init__(self, folder: Path = HERE, threads: "int | None" = None, unknown_below: "float | None" = None) -> None:
        """Load the model.

        Args:
            threads: of the runtime; None uses the target's.
            unknown_below: threshold in place of the one in confidence.json; 0 marks no image.

        Raises:
            ValueError: a damaged file, or a model with another hash than in bundle.json.
            OSError: a file is missing. ImportError: the runtime is not installed. Runtimes raise other exceptions.
        """
        self.about = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        if Path(self.about["model"]).name != self.about["model"]:
            raise ValueError("bundle.json names a model outside of its folder")
        self.steps = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
        self.labels = (folder / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1]
        rule = json.loads((folder / "confidence.json").read_text(encoding="utf-8"))["unknown"]
        self.unknown_below = (rule["below"] if rule else None) if unknown_below is None else unknown_below
        self.threads = threads or self.about["threads"]
        self.files = model_hashes(folder, self.about)
        self.embedding_size = self.about.get("embedding_size", 0)
        self.own_classes, self.added = self._read_classes(folder)
        self.labels = [*self.labels, *(self.added.names if self.added else ())]
        path, load = folder / self.about["model"], LOADERS[self.about["runtime"]]
        self._infer, self.runtime_version, self.arithmetic = load(str(path), self.threads)
        self._one_at_a_time = threading.Lock()  # OpenVINO, ncnn and LiteRT keep one request per model here

    def _read_classes(self, folder: Path) -> "tuple[AddedClasses | None, AddedClasses | None]":
        """Return the model's own classes and the added ones.

        Raises:
            ValueError: a damaged file, or one of another model. OSError: a file cannot be read.
        """
        if not self.embedding_size:
            if (folder / CLASSES).exists():
                raise ValueError(f"{CLASSES} needs a model with an embedding. Remove the file")
            return None, None
        hashes = self.about["model_sha256"]
        own = AddedClasses(
            read_known(folder / KNOWN, hashes, len(self.labels), self.embedding_size), self.labels, hashes
        )
        return own, read_classes(folder / CLASSES, own) if os.path.lexists(folder / CLASSES) else None

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Return logits, float32 (N, classes), for float32 inputs (N, 3, S, S) from `preprocess`."""
        return self.outputs(inputs)[0]

    def outputs(self, inputs: np.ndarray) -> "tuple[np.ndarray, np.ndarray | None]":
        """Return logits as `logits`, and embeddings, float32 (N, k); None for a model without."""
        with self._one_at_a_time:
            rows = [self._infer(inputs[row : row + 1]) for row in range(len(inputs))]
            logits = np.concatenate([np.array(row[0]) for row in rows])
            return logits, None if rows[0][1] is None else np.concatenate([np.array(row[1]) for row in rows])

    def embedding(self, image: Image.Image) -> np.ndarray:
        """Return the embedding, float32 (k,), of an RGB image.

        Raises:
            ValueError: the model has none.
        """
        if not self.embedding_size:
            raise ValueError("the model has no embedding. Train and bundle it with: tcs-edge compress --with-embedding")
        return self.outputs(preprocess(image, self.steps)[None])[1][0]

    def probabilities(self, image: Image.Image) -> np.ndarray:
        """Return the softmax probabilities, float64 (classes,), of an RGB image."""
        return self.timed_probabilities(image)[0]

    def timed_probabilities(self, image: Image.Image) -> tuple[np.ndarray, float, float]:
        """Return the probabilities of an RGB image, and the milliseconds of preprocessing and of the model."""
        started = time.perf_counter()
        inputs = preprocess(image, self.steps)[None]
        prepared = time.perf_counter()
        logits, embeddings = self.outputs(inputs)
        answered = time.perf_counter()
        scores = logits[0].astype(np.float64)
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        if self.added and embeddings is not None:
            shares = self.added.with_added(shares, embeddings[0])
        return shares, 1e3 * (prepared - started), 1e3 * (answered - prepared)

    def best(self, probabilities: np.ndarray, top: int = 1) -> list[tuple[str, float]]:
        """Return the `top` most probable classes with their probabilities, best first."""
        rows = np.argsort(-probabilities, kind="stable")[:top]
        return [(self.labels[row], float(probabilities[row])) for row in rows]

    def classify(self, image: Image.Image, top: int = 1) -> list[tuple[str, float]]:
        """Return the `top` most probable classes of an RGB image with softmax probabilities, best first."""
        return self.best(self.probabilities(image), top)

    def is_unknown(self, guesses: list[tuple[str, float]]) -> bool:
        """Return True if the best of the guesses of `classify` is below the threshold: likely of no known class."""
        return self.unknown_below is not None and guesses[0][1] < self.unknown_below


def model_hashes(folder: Path, about: dict) -> dict[Path, str]:
    """Return path and sha256 of the files of the model that bundle.json describes.

    Raises:
        ValueError: a file has another hash than in bundle.json. OSError: a file cannot be read.
    """
    stem = about["model"].rpartition(".")[0]
    found = {path: sha256(path) for path in sorted(folder.glob(f"{stem}.*"))}
    stated = set(about["model_sha256"])
    if not found:
        raise FileNotFoundError(f"{about['model']} is missing")
    if not stated <= set(found.values()) or found.get(folder / about["model"]) not in stated:
        names = ", ".join(path.name for path, value in found.items() if value not in stated)
        raise ValueError(f"the model has another hash than in bundle.json: {names or about['model']}")
    return {path: value for path, value in found.items() if value in stated}


def sha256(path: Path) -> str:
    """Return the hash of a file.

    Raises:
        OSError: not readable.
    """
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()

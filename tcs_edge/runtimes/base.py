"""Interface of all runtimes, and the checks that their runners share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from tcs_edge.errors import DataError
from tcs_edge.specs.artifacts import PRECISIONS, Precision, onnx_file
from tcs_edge.utils.reading import parse_json

if TYPE_CHECKING:
    from torch import nn

LOGITS, EMBEDDING = "logits", "embedding"  # names of the outputs of every exported file


class Runner(Protocol):
    """A loaded model that turns images into logits.

    Attributes:
        name: key of its results, unique within one validation, such as "onnxruntime".
        precision: the coarsest numbers of the computation, from the file's weights and the arithmetic
            that the runtime reports: "f32", "f16-weights", "f16", "bf16" or "int8".
        labels: class names stored in the file; None if it has none.
        embedding_size: values of an embedding, the model's second output; 0 without one.
    """

    name: str
    precision: str
    labels: tuple[str, ...] | None
    embedding_size: int

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return logits, float32 (B, classes), for normalized float32 images (B, 3, S, S), B >= 1.

        Raises:
            DataError: images of another shape or type, or a failure of the runtime.
        """

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits as `run`, and embeddings, float32 (B, embedding_size); None without an embedding."""

    def close(self) -> None:
        """Free the model. Do not use the runner afterwards."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True)
class OwnFormat:
    """A file format that only one runtime reads.

    Attributes:
        file: path of the main file of a precision, relative to the export folder.
        export: convert a float32 ONNX file of ours: (onnx_path, path, precision), "fp32" or "fp16". None for a
            converter that needs the model itself.
        read_metadata: read the labels, preprocessing, versions and precision back from the main file.
        beside: suffixes of the files that belong to the main one.
        export_model: convert the trained model itself: (model, onnx_path, path, precision). The ONNX file of the model
            has the metadata.
        lacking: candidates that the converter cannot convert, or converts wrongly; they are not chosen.
    """

    file: Callable[[Precision], PurePosixPath]
    export: Callable[[Path, Path, Precision], object] | None
    read_metadata: Callable[[Path], dict[str, str]]
    beside: tuple[str, ...] = ()
    export_model: Callable[[nn.Module, Path, Path, Precision], object] | None = None
    lacking: frozenset[str] = frozenset()

    def write(self, onnx_path: Path, path: Path, precision: Precision, model: nn.Module | None) -> None:
        """Convert the ONNX file at `onnx_path`, or the model that it was made from.

        Raises:
            ValueError: the format needs the model, and there is none.
            TcsEdgeError: as `export` and `export_model`.
        """
        if self.export:
            self.export(onnx_path, path, precision)
        elif self.export_model and model is not None:
            self.export_model(model, onnx_path, path, precision)
        else:
            raise ValueError(f"{path.suffix} files are made from the trained model. Pass it.")


@dataclass(frozen=True)
class Runtime:
    """A runtime for exported models, listed in `runtimes.registry.RUNTIMES`.

    Attributes:
        name: the key of its results.
        open: open a file with a number of threads, to compute in float32.
        open_as_deployed: open a file to compute in the arithmetic that the runtime chooses on this processor;
            return None if that is float32. None for a runtime that always computes in float32.
        package: its package on PyPI; empty if that has the same name.
        own_format: its own file format, exported beside ONNX; None for a runtime that reads ONNX only.
        reads_onnx: it opens ONNX files too.
        on_request: it is used only if `--format` names it.
        require: raise MissingError if its packages are not installed; for a runtime of an extra.
    """

    name: str
    open: Callable[[Path, int], Runner]
    open_as_deployed: Callable[[Path, int], Runner | None] | None = None
    own_format: OwnFormat | None = None
    package: str = ""
    reads_onnx: bool = True
    on_request: bool = False
    require: Callable[[], None] | None = None

    def file(self, precision: Precision) -> PurePosixPath:
        """Return the path of its model of a precision, relative to the export folder."""
        return self.own_format.file(precision) if self.own_format else onnx_file(precision)

    def files(self, precision: Precision) -> tuple[PurePosixPath, ...]:
        """Return the paths of all files of that model, the main one first."""
        main = self.file(precision)
        beside = self.own_format.beside if self.own_format else ()
        return (main, *(main.with_suffix(suffix) for suffix in beside))


class ClosingRunner:
    """Context manager of all runners, for models with one output unless they override `outputs`."""

    embedding_size = 0

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the logits of `outputs`."""
        return self.outputs(images)[0]

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the logits of `run`, without an embedding."""
        return self.run(images), None

    def close(self) -> None:
        """Free the model."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def outputs_of(runner: Runner, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return logits and embeddings of `runner`; `run` alone serves a model without an embedding."""
    return runner.outputs(images) if runner.embedding_size else (runner.run(images), None)


class RefusedRunner(ClosingRunner):
    """Runner of a file that its runtime could not load; `run` raises the reason."""

    labels: tuple[str, ...] | None = None

    def __init__(self, name: str, reason: str, precision: str = "f32") -> None:
        self.name, self.precision, self._reason = name, precision, reason

    def run(self, images: np.ndarray) -> np.ndarray:
        """Raise DataError with the reason."""
        raise DataError(self._reason)


def run_all(
    infer: Callable[[np.ndarray], np.ndarray], images: np.ndarray, img_size: int | None, one_by_one: bool
) -> np.ndarray:
    """Run `images` (B, 3, S, S) as one batch, or one by one for a model with a static batch of 1.

    Raises:
        DataError: the images are not float32 (B >= 1, 3, img_size, img_size).
    """
    require_images(images, img_size)
    if not one_by_one:
        return np.asarray(infer(images), dtype=np.float32)
    rows = [np.array(infer(images[index : index + 1]), dtype=np.float32) for index in range(len(images))]
    return np.concatenate(rows)


def run_both(
    infer: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]],
    images: np.ndarray,
    img_size: int | None,
    one_by_one: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Run `images` as `run_all` does, with a model of logits and, or without, an embedding.

    Raises:
        DataError: as `run_all`, or an embedding that is not (B, k).
    """
    embeddings: list[np.ndarray] = []

    def logits_of(batch: np.ndarray) -> np.ndarray:
        logits, embedding = infer(batch)
        if embedding is not None:
            if embedding.ndim != 2 or len(embedding) != len(batch):
                raise DataError(f"{len(batch)} images gave an embedding of shape {embedding.shape}. Export again.")
            embeddings.append(np.array(embedding, dtype=np.float32))
        return logits

    logits = run_all(logits_of, images, img_size, one_by_one)
    return logits, np.concatenate(embeddings) if embeddings else None


def find_outputs(names: Sequence[str], source: str) -> tuple[int, int | None]:
    """Return the positions of logits and embedding among a model's outputs, by name.

    The only output of a model is its logits, under any name.

    Args:
        names: of the outputs, in the model's order.

    Raises:
        DataError: several outputs other than logits and embedding.
    """
    if len(names) == 1:
        return 0, None
    if sorted(names) != sorted((LOGITS, EMBEDDING)):
        listed = ", ".join(names[:5]) or "none"
        raise DataError(
            f"{source}: a classifier has one output, or the outputs {LOGITS} and {EMBEDDING}; found: {listed}."
        )
    return names.index(LOGITS), names.index(EMBEDDING)


def stored_precision(text: str | None, source: str) -> Precision:
    """Return the precision in a file's metadata; without metadata, "fp32".

    Raises:
        DataError: an unknown precision.
    """
    for precision in PRECISIONS:
        if text in (precision, None):
            return precision
    raise DataError(f"{source}: unknown precision {text!r}. Known: {', '.join(PRECISIONS)}.")


def coarsest(stored: Precision, arithmetic: str) -> str:
    """Return `Runner.precision` of a file with `stored` numbers, run in `arithmetic`.

    Float16 weights in float32 arithmetic lose less than float16 or bfloat16 arithmetic. int8 loses more.
    """
    if stored == "int8":
        return "int8"
    return "f16-weights" if stored == "fp16" and arithmetic == "f32" else arithmetic


def require_images(images: np.ndarray, img_size: int | None) -> None:
    """Raise DataError unless `images` is float32 (B >= 1, 3, S, S), with S = img_size if it is known."""
    side = img_size if img_size is not None else images.shape[-1]
    if images.dtype != np.float32 or images.ndim != 4 or images.shape[1:] != (3, side, side):
        wanted = f"float32 (B, 3, {img_size or 'S'}, {img_size or 'S'})"
        raise DataError(f"a model takes {wanted}, got {images.dtype} {images.shape}.")
    if len(images) == 0:
        raise DataError("no images: a batch needs at least one.")


def static_sides(shape: list[int | None], source: str) -> tuple[int | None, int | None]:
    """Return (batch, side) of a model input (B, 3, S, S); None for a dynamic axis.

    Raises:
        DataError: another layout, or a static batch other than 1.
    """
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise DataError(f"{source}: the input must be (B, 3, S, S), got {shape}.")
    if shape[0] not in (1, None):
        raise DataError(f"{source}: the batch is fixed to {shape[0]}. Export with batch 1 or a dynamic batch.")
    return shape[0], shape[2]


def stored_size(size: object, source: str) -> int:
    """Return the number of values of an embedding that a file states.

    Raises:
        DataError: it is not a number above 0.
    """
    if not isinstance(size, int) or size < 1:
        raise DataError(f"{source}: its embedding has no fixed number of values. Export again.")
    return size


def stored_labels(text: str | None, outputs: object, source: str) -> tuple[str, ...] | None:
    """Return the class names in a file's metadata; None if it has none.

    Args:
        text: a JSON list of names.
        outputs: number of logits of the model; anything but a number if it is not fixed.

    Raises:
        DataError: not a list of names, or their number differs from the model's outputs.
    """
    if not text:
        return None
    try:
        labels = parse_json(text.encode(errors="surrogatepass"), str(source))
    except DataError:
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{source}: the class names in its metadata are not a JSON list of names. Export again.")
    if isinstance(outputs, int) and len(labels) != outputs:
        raise DataError(f"{source} names {len(labels)} classes, but has {outputs} outputs. Export again.")
    return tuple(labels)

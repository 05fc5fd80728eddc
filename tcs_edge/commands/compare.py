"""Compare any ONNX, ncnn or LiteRT classifier with its reference on a folder of images, for `tcs-edge compare`."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from tcs_edge.data import Preprocess, Split
from tcs_edge.data.class_names import require_visible_differences
from tcs_edge.data.folders import load_held_out
from tcs_edge.data.listing import name_some
from tcs_edge.data.loader import image_batches
from tcs_edge.errors import DataError, UsageError
from tcs_edge.runs.folder import MANIFEST
from tcs_edge.runs.load import trained_model
from tcs_edge.runtimes.base import Runner, Runtime, find_outputs
from tcs_edge.runtimes.beside import read_metadata_beside
from tcs_edge.runtimes.metadata import stored_pairs
from tcs_edge.runtimes.onnx_file import read_onnx
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.open import only_here, opened_as_deployed
from tcs_edge.runtimes.registry import RUNTIMES, runtime_for
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.utils.reading import parse_json, read_json
from tcs_edge.validation.checks import chance_check
from tcs_edge.validation.validate import Validation, validate

logger = logging.getLogger(__name__)

BATCH_SIZE = 32


def compare_files(
    onnx_path: Path,
    reference: Path,
    data: Path,
    preprocess: Path | None = None,
    threads: int = 1,
    exclude: Sequence[str] = (),
) -> Validation:
    """Compare an ONNX file in every runtime, or an ncnn or LiteRT model, with a reference on the images of a folder.

    Args:
        onnx_path: the .onnx file, the .param file of an ncnn model with its .bin beside it, or a .tflite file.
        reference: another .onnx file, a run folder, or the checkpoints/deployed.safetensors of one.
        data: an image folder; its test images, or all images if it has no splits.
        preprocess: a preprocess.json; None uses the metadata of the file.
        exclude: glob patterns on names of folders and files to leave out of the images.

    Raises:
        DataError: a file that is missing, damaged or not a classifier, or images that do not fit the model.
        UsageError: a reference of another kind, or no preprocessing.
    """
    graph = None if _on_request(onnx_path) else read_onnx(onnx_path).graph
    with ExitStack() as stack:
        runners: list[Runner] = []
        for runtime in _runtimes_for(onnx_path):
            runners.append(stack.enter_context(runtime.open(onnx_path, threads)))
            deployed = opened_as_deployed(runtime, onnx_path, threads, runtime.name)
            runners += [stack.enter_context(runner) for runner in deployed]
        expected = stack.enter_context(_reference(reference, threads))
        if not all(runner.embedding_size for runner in (*runners, expected)):
            for runner in (*runners, expected):  # one of the two models has logits alone
                runner.embedding_size = 0
        steps = _preprocess(onnx_path, preprocess)
        _require_size(onnx_path, graph, steps)
        classes, images = load_held_out(data, exclude)
        names = next((runner.labels for runner in (*runners, expected) if runner.labels), None)
        images = _relabeled(images, classes, names or _unnamed(classes, graph, data), data)
        batches = image_batches(images, steps, BATCH_SIZE)
        validation = validate(expected, runners, batches, names=images.names, only_here=only_here(runners, "f32"))
    if names is None:
        _warn_unnamed(onnx_path, classes)
    _warn_at_chance(validation, named=names is not None)
    return validation


def _runtimes_for(path: Path) -> list[Runtime]:
    """Return the runtimes that read the file."""
    special = _on_request(path)
    return [special] if special else [runtime for runtime in RUNTIMES.values() if runtime.reads_onnx]


def _on_request(path: Path) -> Runtime | None:
    """Return the runtime of a file in a format on request; None for an ONNX file."""
    runtime = runtime_for(path)
    return runtime if runtime and runtime.on_request else None


def _reference(path: Path, threads: int) -> Runner:
    run = path.parent.parent if path.name == "deployed.safetensors" else path
    if (run / MANIFEST).is_file():
        return TorchRunner(trained_model(run))
    if path.suffix != ".onnx":
        raise UsageError(f"B must be an .onnx file, a run folder or the deployed.safetensors inside one, got {path}.")
    runner = OrtRunner(path, threads)
    runner.name = "reference"
    return runner


def _preprocess(onnx_path: Path, given: Path | None) -> Preprocess:
    if given is not None:
        return Preprocess.from_json(read_json(given, schema_version=1))
    text = _stored(onnx_path).get("preprocess")
    if text is None:
        raise UsageError(f"{onnx_path} has no preprocessing in its metadata. Pass --preprocess FILE.")
    origin = f"{onnx_path}: the preprocessing in the metadata"
    return Preprocess.from_json(parse_json(text.encode(), origin, advice="Pass --preprocess FILE."))


def _stored(path: Path) -> dict[str, str]:
    if not _on_request(path):
        return stored_pairs(path)
    return read_metadata_beside(path) if path.with_suffix(".json").is_file() else {}


def _require_size(onnx_path: Path, graph: onnx.GraphProto | None, steps: Preprocess) -> None:
    side = _fixed(graph.input[0], -1) if graph else None
    if side not in (None, steps.img_size):
        raise DataError(f"{onnx_path} takes {side} px images, but its preprocessing makes {steps.img_size} px.")


def _unnamed(classes: tuple[str, ...], graph: onnx.GraphProto | None, data: Path) -> tuple[str, ...]:
    """Return the folders' class names for a model without names, if it has one output per folder."""
    logits = find_outputs([output.name for output in graph.output], "the model")[0] if graph else 0
    outputs = _fixed(graph.output[logits], -1) if graph else None
    if outputs not in (None, len(classes)):
        raise DataError(f"{data} has {len(classes)} classes, but the model has {outputs} outputs and no class names.")
    return classes


def _warn_unnamed(onnx_path: Path, classes: tuple[str, ...]) -> None:
    """Warn that the order of the classes was assumed."""
    logger.warning(
        f"{onnx_path} has no class names, so the class order was assumed. Its outputs are taken as the class folders "
        f"in sorted order: {name_some(list(classes))}. Accuracy depends on this order; parity does not."
    )


def _warn_at_chance(validation: Validation, named: bool) -> None:
    """Warn of an accuracy that is not significantly above chance, with the likely cause."""
    name, best = max(validation.accuracies.items(), key=lambda found: found[1].value)
    chance = validation.chance(name)
    if chance_check(best, chance).passed:
        return
    level = "below chance" if best.value < chance else "not better than chance"
    cause = (
        "the preprocessing probably differs from training, or the folders have other classes. Check preprocess.json "
        "and the folder names."
        if named
        else "the outputs are probably in another order than the sorted folders. Export the model with its class names."
    )
    logger.warning(f"accuracy {best.value:.2%} is {level} ({chance:.2%}): {cause}")


def _fixed(value: onnx.ValueInfoProto, axis: int) -> int | None:
    """Return the length of one axis of a graph's input or output; None for a dynamic axis."""
    return value.type.tensor_type.shape.dim[axis].dim_value or None


def _relabeled(images: Split, classes: tuple[str, ...], names: tuple[str, ...], data: Path) -> Split:
    """Return the images with labels in the order of the model's class names."""
    require_visible_differences(names, "labels of the model")
    names = tuple(unicodedata.normalize("NFC", name) for name in names)  # as the folders' names
    if unknown := sorted(set(classes) - set(names)):
        raise DataError(f"{data} has classes that the model lacks: {name_some(unknown)}. Remove them.")
    positions = np.array([names.index(name) for name in classes], dtype=np.int64)
    return replace(images, labels=positions[images.labels])

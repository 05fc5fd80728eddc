"""Check the metadata of exported files against the trained model, without a runtime."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tcs_edge.errors import DataError
from tcs_edge.export.preprocess import read_labels
from tcs_edge.runtimes.base import OwnFormat, Runtime
from tcs_edge.runtimes.metadata import read_onnx_metadata
from tcs_edge.runtimes.onnx_file import default_opset, external_files, read_onnx
from tcs_edge.runtimes.registry import runtimes_for
from tcs_edge.specs.artifacts import Precision, is_released, onnx_file, runner_name
from tcs_edge.specs.confidence import Confidence, read_confidence
from tcs_edge.utils.reading import read_json
from tcs_edge.validation.checks import Check, holds

Metadata = Mapping[str, str]


def metadata_checks(
    exports: Path,
    classes: Sequence[str],
    preprocess: Mapping[str, Any],
    max_opset: int | None,
    precisions: Sequence[Precision] = ("fp32",),
    formats: Collection[str] = (),
) -> list[Check]:
    """Check opset, single file, precision, class names and preprocessing of a folder of exports.

    Args:
        preprocess: JSON document of the preprocessing in training.
        max_opset: highest ONNX opset of the target's runtime; None for any.
        precisions: requested precisions.
        formats: formats on request, such as "ncnn".
    """
    checks: list[Check] = []
    for precision in precisions:
        checks += _onnx_checks(exports, precision, preprocess, max_opset)
        for runtime in runtimes_for(formats):
            if runtime.own_format:
                checks += _own_format_checks(exports, precision, preprocess, runtime, runtime.own_format)
    return [
        *checks,
        _check("preprocess.json", lambda: _difference(read_json(exports / "preprocess.json", 1), preprocess)),
        _check("labels.txt", lambda: _difference(list(read_labels(exports / "labels.txt")), list(classes))),
    ]


def confidence_check(path: Path, confidence: Confidence) -> Check:
    """Check that the file at `path` has this temperature and threshold."""
    return _check(path.name, lambda: _difference(read_confidence(path), confidence))


def _onnx_checks(
    exports: Path, precision: Precision, preprocess: Mapping[str, Any], max_opset: int | None
) -> list[Check]:
    path, name = exports / onnx_file(precision), runner_name("onnx", precision)
    if not is_released(path, precision):
        return []
    return [
        _check(f"{name}: opset", lambda: _opset_problem(path, max_opset)),
        _check(f"{name}: one file", lambda: _external_problem(path)),
        _check(f"{name}: precision", lambda: _difference(read_onnx_metadata(path)["precision"], precision)),
        _check(f"{name}: preprocessing", lambda: _preprocess_problem(read_onnx_metadata(path), preprocess)),
    ]


def _own_format_checks(
    exports: Path, precision: Precision, preprocess: Mapping[str, Any], runtime: Runtime, own: OwnFormat
) -> list[Check]:
    path, name = exports / own.file(precision), runner_name(runtime.name, precision)
    if not is_released(path, precision):
        return []
    return [
        _check(f"{name}: precision", lambda: _difference(own.read_metadata(path)["precision"], precision)),
        _check(f"{name}: preprocessing", lambda: _preprocess_problem(own.read_metadata(path), preprocess)),
    ]


def _check(name: str, problem_of: Callable[[], str]) -> Check:
    """Return a check that passes if there is no problem; an unreadable file is a problem."""
    try:
        problem = problem_of()
    except DataError as error:
        problem = str(error)
    return holds(name, not problem, problem)


def _opset_problem(path: Path, max_opset: int | None) -> str:
    opset = default_opset(read_onnx(path))
    if opset is None:
        return "no opset in the file"
    if max_opset is not None and opset > max_opset:
        return f"opset {opset}, above {max_opset}, the highest of the target's runtime"
    return ""


def _external_problem(path: Path) -> str:
    files = external_files(path, read_onnx(path))
    return f"weights in a second file: {files[0].name}" if files else ""


def _preprocess_problem(metadata: Metadata, preprocess: Mapping[str, Any]) -> str:
    try:
        stored = json.loads(metadata["preprocess"])
    except json.JSONDecodeError:
        return "its preprocessing metadata is not JSON"
    return _difference(stored, preprocess)


def _difference(stored: Any, trained: Any) -> str:
    return "" if stored == trained else "it differs from the trained model's"

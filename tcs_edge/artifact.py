"""What the exported files say of themselves, against what was trained: no runtime is needed to see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tcs_edge.errors import DataError
from tcs_edge.export.metadata import read_onnx_metadata
from tcs_edge.export.openvino import read_openvino_metadata
from tcs_edge.export.preprocess import read_labels
from tcs_edge.files import read_json
from tcs_edge.runtimes.onnx_file import default_opset, external_files, read_onnx
from tcs_edge.validation.checks import Check, holds

Metadata = Mapping[str, str]


def artifact_checks(
    exports: Path, classes: Sequence[str], preprocess: Mapping[str, Any], max_opset: int | None
) -> list[Check]:
    """Opset, single file, class names and preprocessing of a folder of exports.

    Args:
        preprocess: the JSON document of the preprocessing that the model was trained with.
        max_opset: the highest ONNX opset that the target's runtime takes; None for any.
    """
    onnx_path, xml_path = exports / "model.onnx", exports / "openvino" / "model.xml"
    return [
        _check("onnx: opset", lambda: _opset_problem(onnx_path, max_opset)),
        _check("onnx: one file", lambda: _external_problem(onnx_path)),
        _check("onnx: preprocessing", lambda: _preprocess_problem(read_onnx_metadata(onnx_path), preprocess)),
        _check("openvino: preprocessing", lambda: _preprocess_problem(read_openvino_metadata(xml_path), preprocess)),
        _check("preprocess.json", lambda: _difference(read_json(exports / "preprocess.json", 1), preprocess)),
        _check("labels.txt", lambda: _difference(list(read_labels(exports / "labels.txt")), list(classes))),
    ]


def _check(name: str, problem_of: Callable[[], str]) -> Check:
    """A check that passes where there is no problem; a file that cannot be read is one."""
    try:
        problem = problem_of()
    except DataError as error:
        problem = str(error)
    return holds(name, not problem, problem)


def _opset_problem(path: Path, max_opset: int | None) -> str:
    opset = default_opset(read_onnx(path))
    if opset is None:
        return "the file names no opset"
    if max_opset is not None and opset > max_opset:
        return f"opset {opset}, the target's runtime takes {max_opset} at most"
    return ""


def _external_problem(path: Path) -> str:
    files = external_files(path, read_onnx(path))
    return f"its weights lie in {files[0].name}" if files else ""


def _preprocess_problem(metadata: Metadata, preprocess: Mapping[str, Any]) -> str:
    try:
        stored = json.loads(metadata["preprocess"])
    except json.JSONDecodeError:
        return "what it says of its preprocessing is no JSON"
    return _difference(stored, preprocess)


def _difference(stored: Any, trained: Any) -> str:
    return "" if stored == trained else "it is not what the model was trained with"

"""Convert the ONNX graph to ncnn's format with pnnx: a .param, a .bin, and our metadata as .json.

pnnx runs as a program of its own in a temporary folder, with a time limit, because it may crash. ncnn's files cannot
hold metadata, so labels, preprocessing, versions and precision are in the .json file beside them.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tcs_edge.errors import DataError, RequirementMissed, UsageError, reason_of
from tcs_edge.runtimes.metadata import KEYS, read_onnx_metadata
from tcs_edge.runtimes.ncnn.library import UnknownLayer, pnnx_program, require_runs
from tcs_edge.runtimes.ncnn_file import read_param, read_weights
from tcs_edge.specs.artifacts import Precision
from tcs_edge.utils.files import atomic_path, write_bytes
from tcs_edge.utils.reading import read_json

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
PNNX_SECONDS = 600
BESIDE = (".bin", ".json")
SOURCE = "model.onnx"
ELSE = "Leave --format ncnn out, or choose another --student."


def export_ncnn(onnx_path: Path, param_path: Path, precision: Precision = "fp32") -> tuple[Path, Path, Path]:
    """Write the model of `onnx_path` as `param_path`, with its .bin and .json beside it; return the three paths.

    Weights stay float32, or become float16 for precision "fp16"; vectors such as biases stay float32. The batch is 1,
    also for an ONNX file with a dynamic batch. All files are written, or none.

    Raises:
        DataError: the ONNX file is missing, damaged or not ours.
        UsageError: pnnx cannot convert the model, or ncnn does not know one of its layers.
        MissingError: pnnx or ncnn is not installed, the disk is full, or the folder cannot be written.
        RequirementMissed: pnnx wrote a model that ncnn does not run.
    """
    metadata = read_onnx_metadata(onnx_path)
    logger.info(f"exporting ncnn ({'float16' if precision == 'fp16' else 'float32'} weights)")
    side = int(json.loads(metadata["preprocess"])["img_size"])
    with TemporaryDirectory() as scratch:
        made = _convert(onnx_path, Path(scratch), precision, side)
        _require_sound(made, onnx_path, side)
        document = _document(metadata, precision)
        return _written({made: param_path, made.with_suffix(".bin"): param_path.with_suffix(".bin")}, document)


def read_ncnn_metadata(param_path: Path) -> dict[str, str]:
    """Read the metadata beside a .param file, in the form of `runtimes.metadata.build_metadata`.

    Raises:
        DataError: the .json file is missing, damaged or incomplete.
    """
    path = param_path.with_suffix(".json")
    document = read_json(path, SCHEMA_VERSION)
    if missing := [key for key in KEYS if key not in document]:
        raise DataError(f"{path} has no {', '.join(missing)}. Pass an export of tcs-edge.")
    texts = {key: json.dumps(document[key], ensure_ascii=False) for key in KEYS}
    return texts | {"precision": str(document["precision"])}


def _document(metadata: Mapping[str, str], precision: Precision) -> dict[str, Any]:
    stored = {key: json.loads(metadata[key]) for key in ("labels", "preprocess", "versions")}
    stored["versions"] |= {name: version(name) for name in ("ncnn", "pnnx")}
    return {"schema_version": SCHEMA_VERSION, **stored, "precision": precision}


def _convert(onnx_path: Path, folder: Path, precision: Precision, side: int) -> Path:
    """Run pnnx in `folder`; return the .param file, which has its .bin beside it."""
    write_bytes(folder / SOURCE, onnx_path.read_bytes())
    command = [str(pnnx_program()), SOURCE, f"inputshape=[1,3,{side},{side}]f32", f"fp16={int(precision == 'fp16')}"]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=PNNX_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UsageError(f"pnnx took more than {PNNX_SECONDS} s to convert {onnx_path.name}. {ELSE}") from None
    except OSError as error:
        raise UsageError(f"pnnx cannot be started: {reason_of(error)}. Install it again: pip install pnnx") from error
    param, weights = folder / "model.ncnn.param", folder / "model.ncnn.bin"
    if done.returncode or not (param.is_file() and weights.is_file()):
        raise UsageError(f"pnnx cannot convert {onnx_path.name} to ncnn: {_reason(done)}. {ELSE}")
    return param


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"it crashed (signal {-done.returncode})"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:200] if lines else f"it ended with code {done.returncode}"


def _require_sound(param: Path, onnx_path: Path, side: int) -> None:
    """Check that ncnn knows every layer, that the .bin has exactly their weights, and that one image runs."""
    try:
        require_runs(param, side)
        problem = read_weights(param.with_suffix(".bin"), read_param(param)).problem
    except UnknownLayer as error:
        raise UsageError(f"ncnn has no layer {error.layer}, which pnnx made of {onnx_path.name}. {ELSE}") from None
    except DataError as error:
        raise RequirementMissed(f"ncnn does not run the model that pnnx made of {onnx_path.name}: {error}") from error
    if problem:
        raise RequirementMissed(f"the model that pnnx made of {onnx_path.name} is not whole: {problem}. {ELSE}")


def _written(moves: Mapping[Path, Path], document: dict[str, Any]) -> tuple[Path, Path, Path]:
    """Copy the files to their places with the metadata; the .param comes last, so that it is never there alone."""
    (made, param), (made_weights, weights) = moves.items()
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    described = param.with_suffix(".json")
    try:
        with atomic_path(param) as one, atomic_path(weights) as two, atomic_path(described) as three:
            one.write_bytes(made.read_bytes())
            two.write_bytes(made_weights.read_bytes())
            three.write_text(text, encoding="utf-8")
            for path in (param, weights, described):
                path.unlink(missing_ok=True)
    except BaseException:
        if not param.exists():
            weights.unlink(missing_ok=True)
            described.unlink(missing_ok=True)
        raise
    return param, weights, described

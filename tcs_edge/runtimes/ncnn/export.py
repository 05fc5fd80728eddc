"""Convert the ONNX graph to ncnn's format with pnnx: a .param, a .bin, and our metadata as .json.

pnnx runs as a program of its own in a temporary folder, with a time limit, because it may crash. ncnn's files cannot
hold metadata, so labels, preprocessing, versions and precision are in the .json file beside them.
"""

from __future__ import annotations

import json
import logging
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from tcs_edge.errors import DataError, RequirementMissed, UsageError, reason_of
from tcs_edge.runtimes.beside import metadata_json, write_together
from tcs_edge.runtimes.metadata import read_onnx_metadata
from tcs_edge.runtimes.ncnn.library import UnknownLayer, pnnx_program, require_runs
from tcs_edge.runtimes.ncnn_file import read_param, read_weights
from tcs_edge.runtimes.programs import failure_of, instead_of, run_program
from tcs_edge.specs.artifacts import Precision
from tcs_edge.utils.files import write_bytes
from tcs_edge.utils.versions import OF_FORMATS

logger = logging.getLogger(__name__)

PNNX_SECONDS = 600
SOURCE = "model.onnx"
ELSE = instead_of("ncnn")


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
        paths = param_path, param_path.with_suffix(".bin"), param_path.with_suffix(".json")
        document = metadata_json(metadata, precision, OF_FORMATS["ncnn"])
        write_together(
            dict(zip(paths, (made.read_bytes(), made.with_suffix(".bin").read_bytes(), document), strict=True))
        )
    return paths


def _convert(onnx_path: Path, folder: Path, precision: Precision, side: int) -> Path:
    """Run pnnx in `folder`; return the .param file, which has its .bin beside it."""
    write_bytes(folder / SOURCE, onnx_path.read_bytes())
    command = [str(pnnx_program()), SOURCE, f"inputshape=[1,3,{side},{side}]f32", f"fp16={int(precision == 'fp16')}"]
    try:
        done = run_program(command, PNNX_SECONDS, folder)
    except subprocess.TimeoutExpired:
        raise UsageError(f"pnnx took more than {PNNX_SECONDS} s to convert {onnx_path.name}. {ELSE}") from None
    except OSError as error:
        raise UsageError(f"pnnx cannot be started: {reason_of(error)}. Install it again: pip install pnnx") from error
    param, weights = folder / "model.ncnn.param", folder / "model.ncnn.bin"
    if done.returncode or not (param.is_file() and weights.is_file()):
        raise UsageError(f"pnnx cannot convert {onnx_path.name} to ncnn: {failure_of(done)}. {ELSE}")
    return param


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

"""Convert the trained model to LiteRT with litert-torch: a .tflite, and our metadata as .json.

The converter reads PyTorch models only, so the file is not made from the ONNX file like the others. It runs as a
program of its own in a temporary folder, with a time limit, because it brings jax and may crash.
"""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tcs_edge.errors import DataError, RequirementMissed, UsageError, reason_of
from tcs_edge.runtimes.beside import metadata_json, write_together
from tcs_edge.runtimes.litert.library import require_litert, require_runs
from tcs_edge.runtimes.litert_file import read_litert
from tcs_edge.runtimes.metadata import read_onnx_metadata
from tcs_edge.runtimes.programs import failure_of, instead_of, run_program
from tcs_edge.specs.artifacts import Precision
from tcs_edge.utils.quiet import quiet
from tcs_edge.utils.versions import OF_FORMATS

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

CONVERTER = Path(__file__).with_name("convert.py")
CONVERTER_SECONDS = 600
ELSE = instead_of("litert")


def export_litert(
    model: nn.Module, onnx_path: Path, tflite_path: Path, precision: Precision = "fp32"
) -> tuple[Path, Path]:
    """Write `model`, (1, 3, S, S) -> (1, classes), as `tflite_path`, with its .json beside it; return both paths.

    Weights stay float32, or become float16 for precision "fp16"; a few small ones stay float32. The batch is 1.
    Both files are written, or none. `model` does not change.

    Args:
        onnx_path: ONNX file of the same model, for the metadata.

    Raises:
        DataError: the ONNX file is missing, damaged or not ours.
        UsageError: the converter cannot convert the model.
        MissingError: a package is not installed, the disk is full, or the folder cannot be written.
        RequirementMissed: the converter wrote a model that LiteRT does not run.
    """
    metadata = read_onnx_metadata(onnx_path)
    require_litert()
    logger.info(f"exporting LiteRT ({'float16' if precision == 'fp16' else 'float32'} weights)")
    side = int(json.loads(metadata["preprocess"])["img_size"])
    paths = tflite_path, tflite_path.with_suffix(".json")
    with TemporaryDirectory() as scratch:
        made = _convert(model, Path(scratch), precision, side)
        _require_sound(made)
        contents = made.read_bytes(), metadata_json(metadata, precision, OF_FORMATS["litert"])
        write_together(dict(zip(paths, contents, strict=True)))
    return paths


def _convert(model: nn.Module, folder: Path, precision: Precision, side: int) -> Path:
    """Trace a copy of `model` on the CPU, and run the converter in `folder`; return the .tflite file."""
    program, made = folder / "model.pt2", folder / "model.tflite"
    _trace(model, program, side)
    command = [sys.executable, "-P", str(CONVERTER), program.name, str(side), precision, made.name]
    try:
        done = run_program(command, CONVERTER_SECONDS, folder)
    except subprocess.TimeoutExpired:
        raise UsageError(f"litert-torch took more than {CONVERTER_SECONDS} s to convert the model. {ELSE}") from None
    if done.returncode or not made.is_file():
        raise UsageError(f"litert-torch cannot convert the model to LiteRT: {failure_of(done).rstrip('.')}. {ELSE}")
    return made


def _trace(model: nn.Module, path: Path, side: int) -> None:
    import torch

    frozen = copy.deepcopy(model).cpu().eval()
    try:
        with quiet("torch.export", "timm"), torch.no_grad():
            torch.export.save(torch.export.export(frozen, (torch.zeros(1, 3, side, side),)), path)
    except RuntimeError as error:
        raise UsageError(f"torch cannot trace the model for LiteRT: {reason_of(error)} {ELSE}") from error


def _require_sound(made: Path) -> None:
    """Check that every constant has its bytes, and that one image runs."""
    try:
        problem = read_litert(made).problem
        require_runs(made)
    except DataError as error:
        raise RequirementMissed(f"LiteRT does not run the model that litert-torch made: {error}") from error
    if problem:
        raise RequirementMissed(f"the model that litert-torch made is not whole: {problem}. {ELSE}")

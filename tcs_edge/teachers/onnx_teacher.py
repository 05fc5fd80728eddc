"""A teacher from the user's ONNX file, which runs in onnxruntime."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from tcs_edge.errors import DataError, MissingError, UsageError, reason_of
from tcs_edge.runtimes.onnx_file import external_files, read_onnx, require_standard
from tcs_edge.runtimes.onnxruntime import load_session
from tcs_edge.specs.options import TeacherOptions
from tcs_edge.teachers.info import TeacherInfo
from tcs_edge.teachers.onnx_interface import (
    ONE_IMAGE,
    Interface,
    axes,
    img_size_of,
    input_of,
    layout_of,
    output_of,
    preprocess_of,
    stored_facts,
)
from tcs_edge.utils.files import sha256_file
from tcs_edge.utils.reading import is_file, is_folder

FLAG = "--teacher-onnx"
MAX_BATCH_BYTES = 2**30


@dataclass(frozen=True)
class OnnxTeacherInfo(TeacherInfo):
    """Description of a teacher in an ONNX file."""

    interface: Interface

    @property
    def fix(self) -> str:
        return "Check --teacher-mean, --teacher-std and --teacher-output, or export the model again."

    @property
    def ingredients(self) -> dict[str, Any]:
        """Additional entries of the cache key."""
        used = self.interface
        return {"model": "onnx", "onnx": [used.output, used.dtype, used.layout, used.token, list(used.averaged)]}


def describe_onnx_teacher(options: TeacherOptions) -> OnnxTeacherInfo:
    """Describe the input and output of the teacher of --teacher-onnx; one call with blank images gives the shapes.

    Raises:
        MissingError: no such file.
        DataError: not an ONNX file, or a model without images as its input.
        UsageError: the file leaves something open that no option states, or an option contradicts the file.
    """
    path = options.teacher_onnx
    if path is None:
        raise ValueError("no ONNX file")
    _require_file(path)
    model = read_onnx(path)
    require_standard(path, model)
    facts = stored_facts(model, path)
    sha256, params_m = _sha256(path, model), _params_m(model)
    del model
    session = load_session(path, torch.get_num_threads())
    name, dtype, shape = input_of(session, path)
    layout = layout_of(shape, options.teacher_layout, path)
    img_size = img_size_of(shape, layout, options.teacher_img_size, facts, path)
    preprocess = preprocess_of(dtype, img_size, options, facts, path)
    batch = 1 if layout in ONE_IMAGE else shape[0]
    if batch and batch * preprocess.tensor_bytes > MAX_BATCH_BYTES:
        raise DataError(f"{path} takes {batch} images of {img_size} px at a time. Export it for a smaller batch.")
    output, token = output_of(session, options.teacher_output, path)
    interface = Interface(name, output, dtype, layout, batch, token)
    found = _trial(session, interface, img_size, path)
    return OnnxTeacherInfo(
        name=path.name,
        dim=_width(found, averaged := _averaged(found, interface, path), path),
        license=f"unknown ({path.name})",
        weights_sha256=sha256,
        weights_source=f"file {path.name}",
        timm_name="",
        preprocess=preprocess,
        params_m=params_m,
        weights_path=path,
        interface=replace(interface, averaged=averaged),
    )


def open_onnx_teacher(info: OnnxTeacherInfo, device: torch.device) -> OnnxFeatures:
    """Load the file of a described teacher, with torch's number of threads.

    Args:
        device: a CUDA device uses the GPU if the installed onnxruntime can.

    Raises:
        DataError: the file can no longer be loaded.
    """
    session = load_session(info.weights_path, torch.get_num_threads(), on_gpu=device.type == "cuda")
    return OnnxFeatures(session, info.interface, info.weights_path)


class OnnxFeatures(nn.Module):
    """An ONNX feature extractor as a module: float32 images (B, 3, S, S) on any device -> float32 (B, d) on the CPU.

    The images are preprocessed. For a uint8 input that means 0..255.
    """

    def __init__(self, session: Any, interface: Interface, path: Path) -> None:
        super().__init__()
        self.session, self.interface, self.path = session, interface, path

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features of a batch; a file with a fixed batch runs several times.

        Raises:
            DataError: the runtime fails.
        """
        pixels = images.cpu().numpy()
        step = self.interface.batch or len(pixels)
        parts = [self._rows(pixels[start : start + step], step) for start in range(0, len(pixels), step)]
        return torch.from_numpy(np.concatenate(parts))

    def _rows(self, pixels: np.ndarray, step: int) -> np.ndarray:
        """Features, float32 (b, d), of b <= `step` images; the last image fills up a fixed batch."""
        filled = np.concatenate([pixels, np.repeat(pixels[-1:], step - len(pixels), axis=0)])
        found = _run(self.session, self.interface, filled, self.path)
        rows: np.ndarray = found.astype(np.float32).mean(axis=self.interface.averaged).reshape(step, -1)
        return rows[: len(pixels)]


def _run(session: Any, interface: Interface, pixels: np.ndarray, path: Path) -> np.ndarray:
    """Return the output for images (B, 3, S, S), float32."""
    images = pixels if interface.layout in ("nchw", "chw") else pixels.transpose(0, 2, 3, 1)
    if interface.layout in ONE_IMAGE:
        images = images[0]
    if interface.dtype == "uint8":
        images = np.rint(images)
    given = np.ascontiguousarray(images, np.dtype(interface.dtype))
    try:
        found: np.ndarray = session.run([interface.output], {interface.input: given})[0]
    except Exception as error:  # onnxruntime's exceptions share no base class
        shown = f"{given.dtype} {given.shape}"
        raise DataError(
            f"teacher {path}: onnxruntime failed on images {shown}: {reason_of(error)} "
            "Pass another --teacher-img-size, or export it again."
        ) from error
    if interface.token is None:
        return found
    if found.ndim != 3 or interface.token >= found.shape[1]:
        shown = f"{path}: output {interface.output} is {axes(found.shape)} for {len(pixels)} images"
        raise UsageError(f"{shown}, without a token {interface.token}. Pass --teacher-output {interface.output}.")
    chosen: np.ndarray = found[:, interface.token]
    return chosen


def _require_file(path: Path) -> None:
    if is_folder(path):
        raise UsageError(f"{path} is a folder. Pass {FLAG} the .onnx file in it.")
    if not is_file(path):
        raise MissingError(f"{path} is missing or not a regular file. Pass {FLAG} an ONNX file.")


def _sha256(path: Path, model: onnx.ModelProto) -> str:
    """Return the sha256 (hex) of the file, or of the hashes of the file and its external data."""
    others = external_files(path, model)
    if not others:
        return sha256_file(path)
    return hashlib.sha256("".join(map(sha256_file, [path, *others])).encode()).hexdigest()


def _params_m(model: onnx.ModelProto) -> float:
    numbers: int = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    return round(numbers / 1e6, 2)


def _trial(session: Any, interface: Interface, img_size: int, path: Path) -> tuple[int, ...]:
    """Return the shape of the output for blank images: a whole batch, or two images if the batch is dynamic."""
    return _run(session, interface, np.zeros((interface.batch or 2, 3, img_size, img_size), np.float32), path).shape


def _averaged(found: tuple[int, ...], interface: Interface, path: Path) -> tuple[int, ...]:
    """Return the axes of an output to average; empty for one vector per image.

    The two equal sides of a map are its height and width, because the images are square.
    """
    images = interface.batch or 2
    rows = found[:1] == (images,)
    if (rows and len(found) == 2) or (images == 1 and len(found) == 1):
        return ()
    if rows and len(found) == 4:
        sides = [pair for pair in ((2, 3), (1, 2)) if found[pair[0]] == found[pair[1]]]
        if len(sides) == 1:
            return sides[0]
    shown = f"{path}: output {interface.output} is {axes(found)} for {images} images"
    if rows and len(found) == 3:
        raise UsageError(
            f"{shown}: {found[1]} tokens of {found[2]} numbers. Pass --teacher-output {interface.output}[0] for the "
            "first one, which is the class token of most transformers."
        )
    raise UsageError(
        f"{shown}, and a teacher gives one vector (N, d) or one square map (N, d, h, w) per image. Pass another "
        "--teacher-output, export the pooled features, or compute them elsewhere and pass --teacher-features."
    )


def _width(found: tuple[int, ...], averaged: tuple[int, ...], path: Path) -> int:
    kept = [size for axis, size in enumerate(found) if axis not in averaged]
    if kept[-1] < 2:
        raise DataError(f"{path} gives {kept[-1]} number per image. A teacher gives a vector of at least 2.")
    return kept[-1]

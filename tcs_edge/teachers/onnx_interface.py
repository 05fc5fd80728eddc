"""Input and output of an ONNX feature extractor, read from the file or given by options.

docs/how-to/teachers.md lists the rules. Whatever neither the file nor an option states is an error, because a wrong
guess gives worse features without a trace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import onnx

from tcs_edge.data.preprocess import MAX_IMG_SIZE, Preprocess
from tcs_edge.errors import DataError, SpecError, UnknownName, UsageError
from tcs_edge.specs.options import TeacherOptions
from tcs_edge.utils.reading import parse_json

Layout = Literal["nchw", "nhwc", "hwc", "chw"]

LAYOUTS: dict[Layout, int] = {"nchw": 1, "nhwc": 3}  # and the axis of the channels
TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
ONE_IMAGE = ("hwc", "chw")  # layouts without a batch axis
TO_255 = (1 / 255, 1 / 255, 1 / 255)
# Pixel ranges of ONNX's metadata for images, https://github.com/onnx/onnx/blob/main/docs/MetadataProps.md
RANGES = {
    "NominalRange_0_255": ((0.0, 0.0, 0.0), TO_255),
    "Normalized_0_1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "Normalized_1_1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@dataclass(frozen=True)
class Interface:
    """Input and output of an ONNX feature extractor.

    Attributes:
        input, output: names of the tensors.
        dtype: type of the input: "float32", "float16" or "uint8".
        layout: axes of the input; "hwc" and "chw" are one image without a batch axis.
        batch: images per call; None for any number.
        token: position of the token that is the feature vector, in an output (B, tokens, d); None for other outputs.
        averaged: axes of the output to average, the two sides of a map (B, d, h, w) or (B, h, w, d); empty for (B, d).
    """

    input: str
    output: str
    dtype: str
    layout: Layout
    batch: int | None
    token: int | None = None
    averaged: tuple[int, ...] = ()


def stored_facts(model: onnx.ModelProto, path: Path) -> Mapping[str, Any]:
    """Return the facts in the file's metadata: a `Preprocess` of an export of tcs-edge, and (mean, std) of its range.

    Raises:
        DataError: damaged metadata. UsageError: channels in the order blue, green, red.
    """
    pairs = {pair.key: pair.value for pair in model.metadata_props}
    if pairs.get("Image.BitmapPixelFormat", "").lower().startswith("bgr"):
        raise UsageError(f"{path} takes channels in the order B, G, R. Export it for R, G, B.")
    facts: dict[str, Any] = {}
    stated = pairs.get("preprocess", "")
    if stated.startswith("{"):  # other programs may write another text under this name
        found = parse_json(stated.encode(), str(path))
        if "schema_version" in found:
            facts["preprocess"] = _preprocess_in(found, path)
    if (named := pairs.get("Image.NominalPixelRange")) in RANGES:
        facts["range"] = RANGES[named]
    return facts


def _preprocess_in(found: dict[str, Any], path: Path) -> Preprocess:
    try:
        return Preprocess.from_json(found)
    except SpecError as error:
        raise DataError(f"{path}: {error}") from None


def input_of(session: Any, path: Path) -> tuple[str, str, list[int | None]]:
    """Return name, type and shape of the input; None for a dynamic axis."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise DataError(f"{path} has {len(inputs)} inputs: {named(inputs)}. A teacher takes images alone.")
    (only,) = inputs
    if only.type not in TYPES:
        raise DataError(f"{path} takes {only.type}. A teacher takes float32, float16 or uint8 images.")
    shape = [axis if isinstance(axis, int) and axis > 0 else None for axis in only.shape]
    if len(shape) not in (3, 4):
        raise DataError(f"{path} takes {named(inputs)}. A teacher takes images (N, 3, H, W) or (N, H, W, 3).")
    return only.name, TYPES[only.type], shape


def layout_of(shape: Sequence[int | None], asked: str | None, path: Path) -> Layout:
    """Return the layout by the shape, or else as asked."""
    if len(shape) == 3:
        last = shape[2] == 3 or (shape[2] is None and shape[0] != 3)
        possible: list[Layout] = ["hwc"] if last else ["chw"] if shape[0] in (3, None) else []
    else:
        possible = [name for name, axis in LAYOUTS.items() if shape[axis] in (3, None)]
        stated = [name for name in possible if shape[LAYOUTS[name]] == 3]
        possible = stated or possible
    shown = f"{path} takes images {axes(shape)}"
    if not possible:
        raise DataError(f"{shown}. A teacher takes three channels: (N, 3, H, W) or (N, H, W, 3).")
    if asked and asked not in possible:
        raise UsageError(f"{shown}, which is {possible[0]}, not {asked}. Leave --teacher-layout out.")
    if len(possible) > 1 and not asked:
        raise UsageError(f"{shown}, which may be nchw or nhwc. Pass --teacher-layout.")
    return next(name for name in possible if asked in (name, None))


def img_size_of(
    shape: Sequence[int | None], layout: Layout, asked: int | None, facts: Mapping[str, Any], path: Path
) -> int:
    """Return the side of the input in pixels."""
    height, width = (shape[-2], shape[-1]) if layout in ("nchw", "chw") else (shape[-3], shape[-2])
    sides = {side for side in (height, width) if side is not None}
    if len(sides) > 1:
        raise DataError(f"{path} takes images of {height} x {width} pixels. A teacher takes square images.")
    if not sides:
        if asked is None and "preprocess" in facts:
            return int(facts["preprocess"].img_size)
        if asked is None:
            raise UsageError(f"{path} takes images of any size. Pass --teacher-img-size, for example 224.")
        return asked
    (side,) = sides
    if asked not in (None, side):
        raise UsageError(f"{path} takes {side} px only, got {asked}. Leave --teacher-img-size out.")
    if side > MAX_IMG_SIZE:
        raise DataError(f"{path} takes images of {side} pixels, above {MAX_IMG_SIZE}. Export it for smaller ones.")
    return side


def preprocess_of(
    dtype: str, img_size: int, options: TeacherOptions, facts: Mapping[str, Any], path: Path
) -> Preprocess:
    """Return the preprocessing that gives the values which the model takes.

    Raises:
        UsageError: mean and std are stated nowhere, or twice.
    """
    mean, std = options.teacher_mean, options.teacher_std
    given = mean is not None and std is not None
    leave_out = "Leave --teacher-mean and --teacher-std out."
    if dtype == "uint8":
        if given:
            raise UsageError(f"{path} takes uint8 pixels, and normalizes them itself. {leave_out}")
        return Preprocess(img_size, mean=(0.0, 0.0, 0.0), std=TO_255)
    stored = facts.get("preprocess")
    if stored is not None or "range" in facts:
        if given:
            raise UsageError(f"{path} states mean and std in its metadata. {leave_out}")
        known = stored or Preprocess(img_size, mean=facts["range"][0], std=facts["range"][1])
        return replace(known, img_size=img_size)
    if mean is None or std is None:
        raise UsageError(
            f"{path} takes {dtype} images and does not state their mean and std. Pass --teacher-mean and "
            "--teacher-std: 0.485,0.456,0.406 and 0.229,0.224,0.225 for most models trained on ImageNet, "
            "0 and 1 for pixels in 0..1, 0 and 1/255 for 0..255."
        )
    return Preprocess(img_size, mean=mean, std=std)


def output_of(session: Any, asked: str | None, path: Path) -> tuple[str, int | None]:
    """Return the name of the output with the features, and the token of NAME[TOKEN]."""
    outputs = {one.name: one for one in session.get_outputs()}
    token = None
    if asked is not None and asked not in outputs and (parts := re.fullmatch(r"(.+)\[(\d{1,6})\]", asked)):
        asked, token = parts[1], int(parts[2])
    if asked is not None and asked not in outputs:
        raise UnknownName(f"output of {path.name}", asked, outputs)
    if asked is None and len(outputs) > 1:
        raise UsageError(
            f"{path} has {len(outputs)} outputs: {named(outputs.values())}. "
            "Pass --teacher-output NAME. Pooled features (N, d) fit best."
        )
    chosen = outputs[asked or next(iter(outputs))]
    if chosen.type not in FLOATS:
        raise DataError(f"{path}: output {chosen.name} is {chosen.type}. Features are float16, float32 or float64.")
    return str(chosen.name), token


def named(tensors: Any) -> str:
    """List inputs or outputs of a session by name and shape."""
    return ", ".join(f"{one.name} {axes(one.shape)}" for one in tensors)


def axes(shape: Sequence[Any]) -> str:
    """Show a shape, with names for dynamic axes and "?" for unnamed ones."""
    return f"({', '.join('?' if axis is None else str(axis) for axis in shape)})"

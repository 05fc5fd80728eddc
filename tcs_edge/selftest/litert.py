"""List the faults of LiteRT models that the validation must detect.

Some come from the real converter and a changed model, the others damage the .tflite file or its metadata.
"""

from __future__ import annotations

import copy
import logging
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from tcs_edge.errors import TcsEdgeError
from tcs_edge.runtimes.litert.export import export_litert
from tcs_edge.runtimes.litert_file import Constant, parse_litert, read_litert
from tcs_edge.selftest.beside import Damage, change_file, set_wrong_mean, swap_labels
from tcs_edge.selftest.faults import Fault
from tcs_edge.selftest.graphs import BEYOND_PHOTOGRAPHS, scale_half
from tcs_edge.selftest.specimen import Specimen
from tcs_edge.specs.artifacts import litert_file

logger = logging.getLogger(__name__)

TFLITE = litert_file("fp32")
Change = Callable[[Tensor], Tensor]


def add_litert(specimen: Specimen) -> bool:
    """Write a LiteRT model beside the good exports; return False if LiteRT cannot hold the student."""
    try:
        export_litert(specimen.model, specimen.exports / "model.onnx", specimen.exports / TFLITE)
    except TcsEdgeError as error:
        logger.info(f"{specimen.name}: skipped litert: {error}")
        return False
    return True


class _Changed(nn.Module):
    """A model with another input or other logits."""

    def __init__(self, model: nn.Module, before: Change, after: Change) -> None:
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.model(self.before(images)))


def _same(values: Tensor) -> Tensor:
    return values


def _converted(before: Change = _same, after: Change = _same) -> Damage:
    """Return a fault that converts a changed copy of the model."""

    def damage(exports: Path, specimen: Specimen) -> None:
        changed = _Changed(copy.deepcopy(specimen.model), before, after)
        export_litert(changed, exports / "model.onnx", exports / TFLITE)

    return damage


def _normalize_again(exports: Path, specimen: Specimen) -> None:
    steps = specimen.preprocess
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (steps.mean, steps.std))
    _converted(lambda images: (images - mean) / std)(exports, specimen)


def _channels_last(images: Tensor) -> Tensor:
    """Read the bytes of an image as (S, S, 3), as programs for other LiteRT models do."""
    side = images.shape[-1]
    return images.reshape(1, side, side, 3).permute(0, 3, 1, 2)


def _clipped(images: Tensor) -> Tensor:
    return images.clamp(-BEYOND_PHOTOGRAPHS, BEYOND_PHOTOGRAPHS)


def _first_two_swapped(logits: Tensor) -> Tensor:
    return torch.cat([logits[:, 1:2], logits[:, :1], logits[:, 2:]], dim=1)


def _half_precision(exports: Path, specimen: Specimen) -> None:
    """Put float16 weights in the place of the float32 ones, as a converter's default does."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / TFLITE.name
        export_litert(specimen.model, exports / "model.onnx", made, "fp16")
        shutil.copyfile(made, exports / TFLITE)


def _weights(change: Callable[[np.ndarray], None], every: bool = False) -> Damage:
    """Return a fault that changes the largest float32 constant in place, or every one."""

    def damage(exports: Path, _: Specimen) -> None:
        path = exports / TFLITE
        content = bytearray(path.read_bytes())
        floats = [constant for constant in read_litert(path).constants if constant.kind == "float"]
        for constant in floats if every else [max(floats, key=_bytes)]:
            change(np.frombuffer(content, np.float32, constant.size // 4, constant.start))
        path.write_bytes(bytes(content))

    return damage


def _bytes(constant: Constant) -> int:
    return constant.size


def _flip_bit(bit: int) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values.view(np.uint32)[np.abs(values).argmax()] ^= np.uint32(1 << bit)

    return change


def _scale_all(values: np.ndarray) -> None:
    values *= np.float32(0.9)


def _turn_input(content: bytes) -> bytes:
    """State the input as (1, S, S, 3), as most LiteRT models of other tools have it."""
    side = parse_litert(content, Path(TFLITE.name)).inputs[0].shape[-1]
    return content.replace(struct.pack("<4i", 1, 3, side, side), struct.pack("<4i", 1, side, side, 3), 1)


def _fault(name: str, damage: Damage, silent: bool = False) -> Fault:
    return Fault(f"litert: {name}", "model", damage, silent)


LITERT_FAULTS = (
    _fault("one weight bit, exponent", _weights(_flip_bit(30))),
    _fault("one weight bit, lowest of the mantissa", _weights(_flip_bit(0)), silent=True),
    _fault("half of one layer's scale, by 10 %", _weights(lambda values: scale_half(values, 1.1))),
    _fault("stale weights", _weights(_scale_all, every=True)),
    _fault("BGR for RGB", _converted(before=lambda images: images.flip(1))),
    _fault("swapped outputs", _converted(after=_first_two_swapped)),
    _fault("normalized twice", _normalize_again),
    _fault("transposed input", _converted(before=lambda images: images.transpose(2, 3))),
    _fault("clipped input", _converted(before=_clipped)),
    _fault("bytes read as channels last", _converted(before=_channels_last)),
    _fault("input stated as channels last", change_file(TFLITE, _turn_input)),
    _fault("float16 for float32", _half_precision),
    _fault("truncated file", change_file(TFLITE, lambda content: content[:-64])),
    _fault("first half of the file", change_file(TFLITE, lambda content: content[: len(content) // 2])),
    _fault("swapped labels", swap_labels(TFLITE)),
    _fault("wrong mean in the metadata", set_wrong_mean(TFLITE)),
)

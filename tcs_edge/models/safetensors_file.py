"""Weights files: safetensors only, since a pickle can run code when it is read."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tcs_edge.errors import DataError, MissingError, UsageError

_PREFIXES = re.compile(r"^(?:module\.|backbone\.|model\.)+")
_PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")


def check_safetensors(path: Path, flag: str) -> None:
    """Refuse everything that is not a safetensors file by name and by its first bytes.

    `flag` is the option that brought the path, for messages: "--teacher-weights".

    Raises:
        MissingError: no such file. UsageError: a folder, or a pickle under any name. DataError: other bytes.
    """
    if not path.exists():
        raise MissingError(f"no such weights file: {path}. Pass {flag} PATH.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Pass {flag} the .safetensors file in it.")
    with path.open("rb") as handle:
        head = handle.read(9)
    looks_pickled = head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80")
    if looks_pickled or path.suffix.lower() in _PICKLE_SUFFIXES:
        raise UsageError(f"{path} is a pickle, which can run code when read. Pass {flag} a safetensors file.")
    if path.suffix.lower() != ".safetensors":
        raise UsageError(f"{path} does not end in .safetensors. Pass {flag} a safetensors file.")
    if head[8:9] != b"{":
        raise DataError(f"{path} is not a safetensors file: its header is damaged. Copy it again.")


def read_state(path: Path, expected: Collection[str]) -> dict[str, torch.Tensor]:
    """Read a state dict; half precision becomes float32, wrapper prefixes of the keys are stripped.

    A key the model already knows keeps its name; from any other, leading `module.`, `backbone.` and
    `model.` go.

    Raises:
        DataError: the file is cut off or damaged, or two keys become one when their prefixes go.
    """
    try:
        raw = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path} cannot be read as safetensors ({error}). Copy it again.") from None
    state = {key if key in expected else _PREFIXES.sub("", key): _upcast(raw[key]) for key in raw}
    if len(state) != len(raw):
        raise DataError(f"{path} holds more than one model: keys collide once their prefixes are stripped.")
    return state


def _upcast(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor

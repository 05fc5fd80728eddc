"""Weights files in safetensors format; pickles are refused, since they can run code when read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from tcs_edge.errors import DataError, MissingError, UsageError, reason_of
from tcs_edge.utils.reading import is_file, is_folder, parse_json, require_content

_PREFIXES = re.compile(r"^(?:module\.|backbone\.|model\.)+")
_PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")


def check_safetensors(path: Path, flag: str) -> None:
    """Refuse files that are not safetensors by their name and their first bytes.

    `flag` is the option with the path, for messages: "--teacher-weights".

    Raises:
        MissingError: no such file. UsageError: a folder, or a pickle under any name. DataError: other bytes, or a
            Git LFS pointer.
    """
    if not is_file(path):
        _refuse_others(path, flag)
    require_content(path)
    with path.open("rb") as handle:
        head = handle.read(9)
    looks_pickled = head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80")
    if looks_pickled or path.suffix.lower() in _PICKLE_SUFFIXES:
        raise UsageError(f"{path} is a pickle, which can run code when read. Pass {flag} a safetensors file.")
    if path.suffix.lower() != ".safetensors":
        raise UsageError(f"{path} does not end in .safetensors. Pass {flag} a safetensors file.")
    if head[8:9] != b"{":
        raise DataError(f"{path} is not a safetensors file: its header is damaged. Copy it again.")


def _refuse_others(path: Path, flag: str) -> NoReturn:
    """Raise the error for a path that is not a regular file."""
    if is_folder(path):
        raise UsageError(f"{path} is a folder. Pass {flag} the .safetensors file in it.")
    with contextlib.suppress(OSError, ValueError):
        path.stat()
        raise UsageError(f"{path} is not a regular file. Pass {flag} a safetensors file.")
    raise MissingError(f"no such weights file: {path}. Pass {flag} PATH.")


def read_state(path: Path, expected: Collection[str]) -> dict[str, torch.Tensor]:
    """Read a state dict as float32, and strip wrapper prefixes from its keys.

    Keys in `expected` keep their names. From other keys, leading `module.`, `backbone.` and `model.` are
    removed. Integer tensors keep their type.

    Raises:
        DataError: the file is damaged, a tensor is complex or of a type that cannot be converted, a name appears
            twice, or two keys become equal without their prefixes.
    """
    try:
        raw = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path} cannot be read as safetensors ({reason_of(error)}). Copy it again.") from None
    if name := next((name for name, tensor in raw.items() if tensor.is_complex()), None):
        raise DataError(f"{path}: tensor {name} has complex values. Pass real weights.")
    _require_unique_names(path)
    state = {own_key(key, expected): _upcast(raw[key], key, path) for key in raw}
    if len(state) != len(raw):
        raise DataError(f"{path} holds more than one model: keys collide without their prefixes. Pass one model.")
    return state


def own_key(key: str, expected: Collection[str]) -> str:
    """Return a key of a file without wrapper prefixes, unless the model has it as it is."""
    return key if key in expected else _PREFIXES.sub("", key)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shape of every tensor of a file, without the tensors.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            return {key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path} cannot be read as safetensors ({reason_of(error)}). Copy it again.") from None


def require_real(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse integers or truth values where the model has real weights, and tensors with another number of axes.

    Args:
        state: the tensors of `path` that the model uses.
        expected: the model's own tensors; names that it lacks are skipped.

    Raises:
        DataError: the message names the first such tensor.
    """
    for name, tensor in state.items():
        own = expected.get(name)
        if own is None:
            continue
        if own.is_floating_point() and not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise DataError(f"{path}: tensor {name} has {kind} values. Pass real weights, such as float32.")
        if tensor.ndim != own.ndim and own.ndim:
            raise DataError(
                f"{path}: tensor {name} has {tensor.ndim} axes {tuple(tensor.shape)}, the model's has {own.ndim} "
                f"{tuple(own.shape)}. Pass the weights of this model."
            )


def require_finite(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse weights with NaN or infinite values.

    Args:
        state: the tensors of `path` that the model uses.

    Raises:
        DataError: the message names the first such tensor.
    """
    for name, tensor in state.items():
        bad = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
        if bad:
            share = f"{bad} of {tensor.numel()}"
            raise DataError(f"{path}: tensor {name} has NaN or infinite values ({share}). Download the file again.")


def _require_unique_names(path: Path) -> None:
    """Refuse a header that names a tensor twice, of which the library would keep one."""
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        parse_json(handle.read(length), str(path), "has a damaged header", "Copy it again.")


def _upcast(tensor: torch.Tensor, name: str, path: Path) -> torch.Tensor:
    try:
        return tensor.float() if tensor.is_floating_point() else tensor
    except (NotImplementedError, RuntimeError):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise DataError(
            f"{path}: tensor {name} has {kind} values, which cannot be read. Pass real weights, such as float32."
        ) from None

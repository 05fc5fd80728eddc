"""Modes of torch for the training: compiled, or with deterministic algorithms only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tcs_edge.errors import MissingError, UsageError, reason_of

# Without a fixed workspace, cuBLAS may change the order of summation.
CUBLAS_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def require_compiler(device: torch.device) -> None:
    """Compile a small function on `device`, so that a missing compiler is reported before the images are read.

    Raises:
        MissingError: torch.compile does not work here.
    """
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.ones(8, device=device))
    except (RuntimeError, ImportError) as error:
        raise MissingError(
            f"--compile: torch.compile does not work here ({reason_of(error)}). "
            "Install a C++ compiler such as g++, and for a GPU also triton, or leave --compile out."
        ) from None


@contextmanager
def tensor_float_32(device: torch.device) -> Iterator[None]:
    """Let a CUDA device multiply float32 matrices as TF32 inside the block, as its convolutions do by default.

    TF32 has the range of float32 and 10 bits of its mantissa. It matters where mixed precision is off.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Allow only deterministic algorithms inside the block, if `wanted`.

    Raises:
        UsageError: the training needs an operation without a deterministic algorithm on its device.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    os.environ.update(CUBLAS_WORKSPACE)
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "deterministic implementation" not in str(error):
            raise
        raise UsageError(
            f"--deterministic: {reason_of(error, limit=90)} Pass --device cpu, or leave --deterministic out."
        ) from None
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.deterministic = before[1]

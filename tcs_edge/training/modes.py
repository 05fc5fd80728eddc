"""Ways torch can run the training: compiled, or by deterministic algorithms alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tcs_edge.errors import MissingError, UsageError, reason_of

# cuBLAS may choose another order of summation with every workspace, unless it is told which to use.
CUBLAS_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def require_compiler(device: torch.device) -> None:
    """Compile something small on `device`, so that a missing compiler is known before the images are read.

    Raises:
        MissingError: torch.compile does not work here.
    """
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.ones(8, device=device))
    except (RuntimeError, ImportError) as error:
        raise MissingError(
            f"--compile: torch.compile does not work here ({reason_of(error)}) "
            "Install a C++ compiler such as g++, for a GPU triton too, or leave --compile out."
        ) from None


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Only deterministic algorithms inside the block, where that is `wanted`.

    Raises:
        UsageError: the training needs an operation that has no such algorithm on its device.
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

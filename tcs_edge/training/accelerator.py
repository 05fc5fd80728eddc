"""Device and precision of the training, through accelerate."""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from tcs_edge.errors import UsageError
from tcs_edge.utils.ranks import current

# Variables of NCCL, which then exchanges gradients through the memory of the host.
WITHOUT_DIRECT_LINKS = {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}


def make_accelerator(device: str, amp: str = "no") -> Accelerator:
    """Create an Accelerator on `device`: "cpu", "cuda", "mps", or "auto" for the best available device.

    Args:
        amp: "no", "bf16", "fp16" or "auto"; see `settled_amp`.

    Raises:
        UsageError: the device is unknown or missing on this machine, or it does not support `amp`.
    """
    accelerator = _accelerator(device, "no")
    if device != "auto" and accelerator.device.type != device:
        here = ", ".join(available_devices())
        raise UsageError(f"--device {device} is not available on this machine. Choose one of: auto, {here}.")
    precision = settled_amp(amp, accelerator.device)
    return accelerator if precision == "no" else _accelerator(device, precision)


def settled_amp(amp: str, device: torch.device) -> str:
    """Resolve `amp` on `device`: "auto" is "bf16" on CUDA if supported, else "fp16"; elsewhere it is "no".

    Raises:
        UsageError: `device` does not support this precision.
    """
    if amp == "auto":
        if device.type != "cuda":
            return "no"
        return "bf16" if _has_bf16(device) else "fp16"
    if amp == "fp16" and device.type == "cpu":
        raise UsageError("--amp fp16 does not work on a CPU. Pass --amp bf16 or --amp no.")
    if amp == "bf16" and not _has_bf16(device):
        raise UsageError("--amp bf16 does not work on this GPU: no bfloat16. Pass --amp fp16 or --amp no.")
    return amp


def _has_bf16(device: torch.device) -> bool:
    return device.type != "cuda" or bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _accelerator(device: str, precision: str) -> Accelerator:
    # Without a GPU, accelerate sees the other processes only if it is told to use the CPU.
    cpu = device == "cpu" or (not current().alone and not torch.cuda.is_available())
    # Statistics of batch norms are sent before a validation instead of at every step.
    parallel: list[Any] = [DistributedDataParallelKwargs(broadcast_buffers=False)]
    for _ in range(2):
        try:
            return Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=parallel)
        except NotImplementedError:
            # Old drivers cannot connect GeForce RTX 40 cards directly. `accelerate launch` sets these variables too.
            os.environ.update(WITHOUT_DIRECT_LINKS)
        except ValueError:
            # A process keeps the settings of its first Accelerator, and an earlier run may have had others.
            pass
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=parallel)


def available_devices() -> list[str]:
    """List the devices that torch can use on this machine."""
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices

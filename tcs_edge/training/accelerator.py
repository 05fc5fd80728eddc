"""The device that training runs on, through accelerate."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from tcs_edge.errors import UsageError


def make_accelerator(device: str) -> Accelerator:
    """An Accelerator on `device`: "auto" takes the best there is, else "cpu", "cuda" or "mps".

    Raises:
        UsageError: the device is unknown, or this machine does not have it.
    """
    accelerator = Accelerator(cpu=device == "cpu")
    if device != "auto" and accelerator.device.type != device:
        here = ", ".join(available_devices())
        raise UsageError(f"--device {device} cannot be used here. Choose one of: auto, {here}.")
    return accelerator


def available_devices() -> list[str]:
    """Devices torch can use on this machine."""
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices

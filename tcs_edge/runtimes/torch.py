"""The trained model in PyTorch: the reference for all exports."""

from __future__ import annotations

import numpy as np
import torch

from tcs_edge.runtimes.base import ClosingRunner, run_all


class TorchRunner(ClosingRunner):
    """Runner of `module`, (B, 3, S, S) -> (B, classes), in eval mode, on its current device."""

    name = "pytorch"
    precision = "f32"
    labels: tuple[str, ...] | None = None

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module.eval()
        self._device = next((p.device for p in module.parameters()), torch.device("cpu"))

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return logits, float32 (B, classes), for float32 images (B, 3, S, S)."""
        return run_all(self._infer, images, img_size=None, one_by_one=False)

    @torch.inference_mode()
    def _infer(self, images: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        logits: np.ndarray = self._module(batch).float().cpu().numpy()
        return logits

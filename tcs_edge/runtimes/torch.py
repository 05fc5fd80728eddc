"""The trained model in PyTorch: the reference for all exports."""

from __future__ import annotations

import numpy as np
import torch

from tcs_edge.runtimes.base import ClosingRunner, run_both


class TorchRunner(ClosingRunner):
    """Runner of `module`, (B, 3, S, S) -> (B, classes), in eval mode, on its current device.

    A module with an `embedding_size` returns logits and embedding.
    """

    name = "pytorch"
    precision = "f32"
    labels: tuple[str, ...] | None = None

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module.eval()
        self.embedding_size = int(getattr(module, "embedding_size", 0))
        self._device = next((p.device for p in module.parameters()), torch.device("cpu"))

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits, float32 (B, classes), and the embedding, for float32 images (B, 3, S, S)."""
        return run_both(self._infer, images, img_size=None, one_by_one=False)

    @torch.inference_mode()
    def _infer(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        made = self._module(batch)
        logits, embedding = made if isinstance(made, tuple) else (made, None)
        return logits.float().cpu().numpy(), None if embedding is None else embedding.float().cpu().numpy()

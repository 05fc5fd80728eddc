"""Normalization of whole batches, on the device that computes with them: workers hand over a quarter of the bytes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tcs_edge.data.preprocess import Preprocess

CPU = torch.device("cpu")


class Normalizer:
    """Normalize views, uint8 (B, S, S, 3), to float32 (B, 3, S, S) on `device`, to the bits of `Preprocess.normalize`.

    Args:
        channels_last: lay the result out in torch's channels_last format, as training takes it.
    """

    def __init__(self, preprocess: Preprocess, device: torch.device = CPU, channels_last: bool = False) -> None:
        self.preprocess, self.device, self.channels_last = preprocess, device, channels_last
        mean, std = (np.array(values, np.float32) for values in (preprocess.mean, preprocess.std))
        # As large as a view: arrays of three numbers would be repeated pixel by pixel, which is slow.
        side = preprocess.img_size
        self.mean, self.std = (np.ascontiguousarray(np.broadcast_to(one, (side, side, 3))) for one in (mean, std))
        # A division by a number of the host would become a product with its inverse on a GPU.
        self._on_device = tuple(torch.tensor(one, device=device) for one in (255.0, mean, std)) if _far(device) else ()

    def __call__(self, views: Tensor) -> Tensor:
        """Normalize one batch."""
        if self._on_device:
            full, mean, std = self._on_device
            pixels = views.to(self.device, non_blocking=True).float().div_(full).sub_(mean).div_(std)
            planes = pixels.permute(0, 3, 1, 2)
            return planes if self.channels_last else planes.contiguous()
        if not self.channels_last:
            return torch.from_numpy(np.stack([self.preprocess.normalize(view) for view in views.numpy()]))
        pixels = np.empty(views.shape, np.float32)
        for view, normal in zip(views.numpy(), pixels, strict=True):  # one at a time stays in the processor's cache
            np.divide(view, np.float32(255), out=normal)
            normal -= self.mean
            normal /= self.std
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _far(device: torch.device) -> bool:
    return str(device.type) != "cpu"

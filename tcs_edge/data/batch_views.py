"""Random views of a whole batch, computed on the device that trains: workers only copy the window of each view.

The numbers of a view are drawn as in `augment`, so both ways show the same windows. Pillow's resize is two products
with a matrix of weights, one per axis, each rounded to 8 bits. Here they are batched matrix products in float32. The
rotation samples at the same places as Pillow's.

Of the pixels of views of 64 photos, 96 % equal those of Pillow's view, and 99.999 % differ by at most 2 of 255. Most
differences are those of tall images. Pillow 13 resizes these in height first, and so rounds in another order. With the
bicubic filter, pixels beside a change from black to white may then differ by more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from tcs_edge.data.augment import MAX_ASPECT, Augment, Drawn

AT_ONCE = 64  # images whose windows are in float32 at the same time, 1.7 MB each
STEP_PX = 32  # sides of a batch of windows are multiples of it, so that batches have few different sizes
NUMBERS = 10  # per window: start, length and size in each axis, mirrored, angle in radians, shift in each axis


@dataclass(frozen=True)
class Window:
    """The part of an image that a view is computed from, and the view's numbers.

    Attributes:
        pixels: uint8 (height, width, 3), the box of the view with the margin of the resampling filter.
        numbers: float32 (NUMBERS,).
    """

    pixels: np.ndarray
    numbers: np.ndarray


def window_of(pixels: np.ndarray, drawn: Drawn, augment: Augment) -> Window:
    """Return the window of a view of an image, uint8 (height, width, 3)."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = drawn.box
    columns, across = _part(left, right, width, augment)
    rows, down = _part(top, bottom, height, augment)
    numbers = [*across, *down, drawn.mirrored, math.radians(drawn.angle_deg), *drawn.shift]
    return Window(pixels[rows, columns], np.array(numbers, np.float32))


def _part(start: float, end: float, size: int, augment: Augment) -> tuple[slice, tuple[float, float, float]]:
    """Return the pixels of one axis that the resize from `start` to `end` reads, and its numbers for `_weights`."""
    margin = _radius(augment) * max(1.0, (end - start) / augment.preprocess.img_size)
    first, last = max(0, math.floor(start - margin)), min(size, math.ceil(end + margin))
    return slice(first, last), (start - first, end - start, last - first)


def longest_window(shorter_side: int, augment: Augment) -> int:
    """Return the largest side in pixels of a batch of windows, of images whose shorter side is at most this."""
    longest = shorter_side * MAX_ASPECT[augment.kind]
    margin = _radius(augment) * max(1.0, longest / augment.preprocess.img_size)
    return _stepped(math.ceil(longest + 2 * margin) + 2)


def collate_windows(samples: list[tuple[Window, int, int]]) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """Return ((windows uint8 (B, height, width, 3), numbers (B, NUMBERS)), labels (B,), positions (B,)).

    Windows are at the top left. The weights of the pixels around them are 0, so these are not set.
    """
    windows, labels, positions = zip(*samples, strict=True)
    height, width = (_stepped(max(one.pixels.shape[axis] for one in windows)) for axis in (0, 1))
    batch = torch.empty(len(windows), height, width, 3, dtype=torch.uint8)
    for place, one in zip(batch.numpy(), windows, strict=True):
        place[: one.pixels.shape[0], : one.pixels.shape[1]] = one.pixels
    numbers = torch.from_numpy(np.stack([one.numbers for one in windows]))
    return (batch, numbers), torch.tensor(labels), torch.tensor(positions)


class BatchViews:
    """Compute the views of a batch of windows on `device`."""

    def __init__(self, augment: Augment, device: torch.device) -> None:
        self.augment, self.device, self.side = augment, device, augment.preprocess.img_size
        self.kernel = _KERNELS[augment.preprocess.resampling][1]

    def __call__(self, windows: Tensor, numbers: Tensor) -> Tensor:
        """Return the views, uint8 (B, S, S, 3), of windows uint8 (B, height, width, 3) with numbers (B, NUMBERS)."""
        windows, numbers = (part.to(self.device, non_blocking=True) for part in (windows, numbers))
        parts = zip(windows.split(AT_ONCE), numbers.split(AT_ONCE), strict=True)
        with _whole_mantissa():
            return torch.cat([self._views(*part) for part in parts])

    def _views(self, windows: Tensor, numbers: Tensor) -> Tensor:
        count, height, width, _ = windows.shape
        across, down, turn = numbers[:, :3], numbers[:, 3:6], numbers[:, 7:]
        columns = self._weights(across, width, mirrored=numbers[:, 6] > 0)
        rows = self._weights(down, height)
        pixels = windows.permute(0, 1, 3, 2).to(torch.float32, memory_format=torch.contiguous_format)
        narrow = _rounded(pixels.reshape(count, height * 3, width) @ columns.transpose(1, 2))
        small = _rounded(rows @ narrow.reshape(count, height, 3 * self.side))
        views = small.reshape(count, self.side, 3, self.side).permute(0, 2, 1, 3)
        if self.augment.kind == "crop":
            views = _turned(views, turn)
        return views.permute(0, 2, 3, 1).to(torch.uint8, memory_format=torch.contiguous_format)

    def _weights(self, axis: Tensor, pixels: int, mirrored: Tensor | None = None) -> Tensor:
        """Return Pillow's weights of the resize in one axis, (B, S, pixels), from (start, length, size) of each."""
        start, length, size = (part[:, None, None] for part in axis.T)
        places = torch.arange(self.side, device=self.device) + 0.5
        if mirrored is not None:
            places = torch.where(mirrored[:, None], places.flip(0), places)
        scale = length / self.side
        centers = start + places.expand(len(axis), -1)[:, :, None] * scale
        here = torch.arange(pixels, device=self.device)
        found = self.kernel((here + 0.5 - centers) / scale.clamp(min=1.0)) * (here < size)
        return found / found.sum(dim=2, keepdim=True)


@contextmanager
def _whole_mantissa() -> Iterator[None]:
    """Multiply float32 as such. TF32, in which a GPU trains, rounds the weights to 10 bits, and pixels by up to one."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _turned(views: Tensor, numbers: Tensor) -> Tensor:
    """Rotate and shift views, (B, 3, S, S) in 0..255, by (angle, right, down) around their centers, as Pillow does.

    Pixels from outside have the mean color of the border, as in `rand_augment.border_color`.
    """
    side = views.shape[-1]
    angle, right, down = (part[:, None, None] for part in numbers.T)
    centered = torch.arange(side, device=views.device) + 0.5 - side / 2
    across, below = centered[None, None, :] - right, centered[None, :, None] - down
    places = torch.stack(
        [angle.cos() * across - angle.sin() * below, angle.sin() * across + angle.cos() * below], dim=3
    ) / (side / 2)
    sampled = grid_sample(views, places, mode="bilinear", padding_mode="border", align_corners=False)
    edges = (views[:, :, 0], views[:, :, -1], views[:, :, :, 0], views[:, :, :, -1])
    color = torch.cat(edges, dim=2).mean(dim=2).round()[:, :, None, None]
    inside = (places >= -1).all(dim=3) & (places < 1).all(dim=3)
    return torch.where(inside[:, None], sampled.floor(), color)


def _rounded(values: Tensor) -> Tensor:
    """Round to whole numbers in 0..255, halves up."""
    return values.add_(0.5).floor_().clamp_(0, 255)


def _bilinear(offset: Tensor) -> Tensor:
    return (1 - offset.abs()).clamp(min=0)


def _bicubic(offset: Tensor) -> Tensor:
    """Return Keys' cubic with a = -0.5."""
    far = offset.abs()
    near = (1.5 * far - 2.5) * far * far + 1
    tail = ((-0.5 * far + 2.5) * far - 4) * far + 2
    return torch.where(far < 1, near, torch.where(far < 2, tail, 0))


# Radius in pixels of the target, and weight at an offset.
_KERNELS: dict[Image.Resampling, tuple[float, Callable[[Tensor], Tensor]]] = {
    Image.Resampling.BILINEAR: (1.0, _bilinear),
    Image.Resampling.BICUBIC: (2.0, _bicubic),
}


def _radius(augment: Augment) -> float:
    return _KERNELS[augment.preprocess.resampling][0]


def _stepped(pixels: int) -> int:
    return -(-pixels // STEP_PX) * STEP_PX

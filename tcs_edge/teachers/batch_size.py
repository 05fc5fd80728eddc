"""Batch size of a teacher's pass: fixed on a CPU, as large as the memory allows on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tcs_edge.errors import MissingError

ON_CPU = 32
_TRIED = (8, 4, 2, 1)  # images of the measurement
_MOST, _STEP = 256, 8
_USED_SHARE = 0.5  # of the free memory; kernels of other batch sizes need other workspaces


def pass_batch_size(module: Callable[[torch.Tensor], torch.Tensor], img_size: int, device: torch.device) -> int:
    """Return the images that a teacher computes at a time, (B, 3, img_size, img_size), on `device`.

    Raises:
        MissingError: the GPU has too little memory for one image.
    """
    if device.type != "cuda":
        return ON_CPU

    def peak_bytes(images: int) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with torch.inference_mode():
            module(torch.zeros(images, 3, img_size, img_size, device=device))
        return int(torch.cuda.max_memory_allocated(device)) - int(before)

    return batch_for_memory(peak_bytes, torch.cuda.mem_get_info(device)[0])


def batch_for_memory(peak_bytes: Callable[[int], int], free_bytes: int) -> int:
    """Return a batch size for `free_bytes`, from the memory of a few images.

    Args:
        peak_bytes: computes a number of images and returns the memory that they took.

    Raises:
        MissingError: one image does not fit.
    """
    for images in _TRIED:
        try:
            per_image = max(1, peak_bytes(images) // images)
        except torch.OutOfMemoryError:
            continue
        fits = int(_USED_SHARE * free_bytes / per_image)
        return max(images, min(_MOST, fits // _STEP * _STEP))
    raise MissingError(
        f"the GPU has too little memory for one image of the teacher ({free_bytes / 1e6:.0f} MB free). "
        "Choose a smaller --teacher or --teacher-img-size, or pass --device cpu."
    )

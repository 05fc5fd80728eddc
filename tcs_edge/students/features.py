"""What a student's network says of images before any training."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from tcs_edge.errors import DataError


def features_before_training(
    model: nn.Module, batches: Iterable[torch.Tensor], device: torch.device, origin: str
) -> np.ndarray:
    """float16 (n, d) features of batches of pixels (B, 3, S, S) in evaluation mode; `model` stays as it is.

    Args:
        origin: of the weights, for the message.

    Raises:
        DataError: they are not finite in fp16.
    """
    was_training = model.training
    model = model.eval().to(device, memory_format=torch.channels_last)
    with torch.inference_mode():
        features = np.concatenate([model(batch.to(device)).half().cpu().numpy() for batch in batches])
    model.train(was_training)
    if not np.isfinite(features).all():
        raise DataError(f"the features of {origin} are NaN, Inf or beyond fp16")
    return features

"""Features of a student before training."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from tcs_edge.errors import DataError


def features_before_training(
    model: nn.Module, batches: Iterable[torch.Tensor], device: torch.device, origin: str
) -> np.ndarray:
    """Compute float16 features (n, d) of batches of images (B, 3, S, S) in evaluation mode.

    The weights and the mode of `model` do not change, but `model` is moved to `device`.

    Args:
        origin: origin of the weights, for the message.

    Raises:
        DataError: the features are not finite in fp16.
    """
    was_training = model.training
    model = model.eval().to(device, memory_format=torch.channels_last)
    with torch.inference_mode():
        features = np.concatenate([model(batch.to(device)).half().cpu().numpy() for batch in batches])
    model.train(was_training)
    if not np.isfinite(features).all():
        raise DataError(f"the features of {origin} are NaN, Inf or above the fp16 limit. Choose other weights.")
    return features

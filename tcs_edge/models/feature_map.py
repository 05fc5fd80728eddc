"""Last feature map of a timm image model as (B, d, h, w), for any internal layout."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d


def last_map(model: nn.Module, images: Tensor) -> Tensor:
    """Compute the last feature map (B, d, h, w) of `model`, before pooling.

    A transformer's patch tokens are arranged on their square grid, without class and register tokens.
    The final norm is included if the model applies it before pooling. Transformers do; ConvNeXt
    normalizes after pooling, so its map is not normalized.

    Args:
        images: (B, 3, S, S), square.
    """
    features = model.forward_features(images)
    if features.ndim == 3:
        return _patches_as_map(features[:, getattr(model, "num_prefix_tokens", 0) :])
    return features.permute(0, 3, 1, 2) if getattr(model, "output_fmt", None) == "NHWC" else features


def blank_image(model: nn.Module, img_size: int) -> Tensor:
    """Return zeros (1, 3, img_size, img_size) on the device of the model's parameters."""
    first = next(model.parameters(), None)
    return torch.zeros(1, 3, img_size, img_size, device=None if first is None else first.device)


def _patches_as_map(tokens: Tensor) -> Tensor:
    """Arrange the patch tokens (B, h w, d) of a square image as a map (B, d, h, w)."""
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1]:
        raise ValueError(f"{tokens.shape[1]} patch tokens do not form a square")
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def pooled_to(features: Tensor, grid: int) -> Tensor:
    """Average a map (B, d, h, w) to (B, d, grid, grid); return it unchanged if it has that grid."""
    return features if features.shape[-1] == grid else adaptive_avg_pool2d(features, grid)


def map_shape(model: nn.Module, img_size: int) -> tuple[int, int]:
    """Shape (d, side) of the last map at `img_size` pixels; the model's mode and weights do not change."""
    training = model.training
    with torch.no_grad():
        features = last_map(model.eval(), blank_image(model, img_size))
    model.train(training)
    return int(features.shape[1]), int(features.shape[-1])


def drop_head(model: nn.Module, img_size: int) -> None:
    """Replace, in place, every layer that the last map does not depend on by an identity.

    Otherwise layers after the last map (pooling, a hidden layer) would be counted and stored without
    being trained.
    """
    training = model.training
    last_map(model.eval(), blank_image(model, img_size)).sum().backward()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            parameters = list(child.parameters())
            if parameters and all(parameter.grad is None for parameter in parameters):
                setattr(parent, name, nn.Identity())
    model.zero_grad(set_to_none=True)
    model.train(training)

"""Write attention in a form that every runtime computes right.

OpenVINO 2026.4 confuses tokens and heads where their numbers are equal: its fused kernel for attention then returns
wrong values. `mobilevit_xxs` has 4 heads, and 4 tokens in one of its blocks at 32, 64, 96 and 128 px. The kernel is
right if queries, keys and values are cut apart before their heads are.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


@torch.no_grad()
def cut_before_heads(model: nn.Module, images: Tensor) -> None:
    """Change the attention layers of `model` that have as many tokens as heads; their values stay the same.

    Args:
        model: in evaluation mode.
        images: (B, 3, S, S), to see the number of tokens.
    """
    ambiguous: set[Attention] = set()

    def note(layer: Attention, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> None:
        plain = options.get("attn_mask") is None and not options.get("is_causal")
        if plain and inputs[0].shape[1] == layer.num_heads:
            ambiguous.add(layer)

    layers = [layer for layer in model.modules() if type(layer) is Attention and getattr(layer, "gate", None) is None]
    hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    if layers:
        model(images)
    for hook in hooks:
        hook.remove()
    for layer in ambiguous:
        layer.forward = MethodType(_attention, layer)


def _attention(layer: Attention, tokens: Tensor, **_: Any) -> Tensor:
    """Attention of tokens (B, N, C) in evaluation mode, without a mask."""
    query, key, value = (
        part.unflatten(2, (layer.num_heads, -1)).transpose(1, 2) for part in layer.qkv(tokens).chunk(3, dim=2)
    )
    mixed = scaled_dot_product_attention(layer.q_norm(query), layer.k_norm(key), value, scale=layer.scale)
    mixed = mixed.transpose(1, 2).flatten(2)
    return layer.proj(layer.norm(mixed) if hasattr(layer, "norm") else mixed)

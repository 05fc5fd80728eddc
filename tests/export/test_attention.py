"""Tests of attention with as many tokens as heads, which OpenVINO 2026.4 computes wrong in timm's own form."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.models.vision_transformer import Attention

from tcs_edge.export.attention import cut_before_heads
from tcs_edge.export.onnx import export_onnx
from tcs_edge.runtimes.openvino.library import core

CLASSES = 3


def with_sharp_attention(name: str) -> torch.nn.Module:
    """Untrained weights give nearly uniform attention, in which a wrong kernel does not show."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=CLASSES).eval()
    for layer in model.modules():
        if isinstance(layer, Attention):
            layer.qkv.weight.data *= 4
    return model


# One block of mobilevit_xxs has 4 tokens for its 4 heads at the first two sizes, and 9 at the last.
@pytest.mark.parametrize("side", [32, 96, 160])
@torch.no_grad()
def test_openvino_agrees_with_the_model_at_any_number_of_tokens(tmp_path, side):
    model = with_sharp_attention("mobilevit_xxs")
    image = torch.randn(1, 3, side, side)
    path = export_onnx(
        model, tmp_path / "model.onnx", side, labels=[str(index) for index in range(CLASSES)], preprocess={}
    )
    compiled = core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = model(image)
    found = torch.from_numpy(compiled([image.numpy()])[0])
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@torch.no_grad()
def test_only_ambiguous_attention_changes_and_keeps_its_values():
    model = with_sharp_attention("mobilevit_xxs")
    image = torch.randn(2, 3, 32, 32)
    changed = copy.deepcopy(model)
    cut_before_heads(changed, image)
    own = [layer for layer in changed.modules() if isinstance(layer, Attention) and "forward" in vars(layer)]
    attention = [layer for layer in changed.modules() if isinstance(layer, Attention)]
    assert 0 < len(own) < len(attention)
    torch.testing.assert_close(changed(image), model(image))


@torch.no_grad()
def test_attention_with_a_mask_stays_as_it_is():
    layer = Attention(8, num_heads=4).eval()

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.layer(tokens, attn_mask=torch.ones(4, 4, dtype=torch.bool).tril())

    cut_before_heads(Masked().eval(), torch.randn(1, 4, 8))
    assert "forward" not in vars(layer)

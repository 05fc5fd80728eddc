from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.latency.operators import FEATURES, TRANSFORMER_FEATURES, Operator, cost_features


def conv(image: tuple[int, ...], weight: tuple[int, ...], output: tuple[int, ...], *more: tuple[int, ...]) -> Operator:
    return Operator("Conv", (image, weight, (weight[0],), *more), (output,))


def test_a_dense_convolution_counts_the_taps_inside_the_image() -> None:
    """3 x 3 on 8 x 8 with a border of one: 22 of 24 taps in each direction, 484 of 576."""
    found = cost_features([conv((1, 16, 8, 8), (32, 16, 3, 3), (1, 32, 8, 8))])
    assert found["dense_macs"] == pytest.approx(32 * 16 * 22 * 22 / 1e6)
    assert found["weights_mb"] == pytest.approx(32 * 16 * 9 * 4 / 1e6)
    assert found["calls"] == 1


def test_on_one_pixel_only_the_center_of_a_kernel_counts() -> None:
    found = cost_features([conv((1, 16, 1, 1), (32, 16, 3, 3), (1, 32, 1, 1))])
    assert found["vector_macs"] == pytest.approx(32 * 16 / 1e6)
    assert found["weights_mb"] == pytest.approx(32 * 16 * 4 / 1e6)


def test_taps_with_a_stride_equal_the_brute_force_count() -> None:
    size, places, stride, before = 7, 4, 2, 1
    taps = sum(0 <= place * stride - before + tap < size for place in range(places) for tap in range(3))
    found = cost_features([conv((1, 16, 7, 7), (16, 16, 3, 3), (1, 16, 4, 4))])
    assert found["dense_macs"] == pytest.approx(16 * 16 * taps**2 / 1e6)


@pytest.mark.parametrize(
    ("operator", "feature"),
    [
        (conv((1, 3, 64, 64), (16, 3, 3, 3), (1, 16, 32, 32)), "stem_macs"),
        (conv((1, 32, 8, 8), (64, 32, 1, 1), (1, 64, 8, 8)), "pointwise_macs"),
        (conv((1, 32, 8, 8), (32, 1, 3, 3), (1, 32, 8, 8)), "depthwise_macs"),
        (conv((1, 32, 8, 8), (64, 1, 3, 3), (1, 64, 8, 8)), "lowered_macs"),
        (conv((1, 32, 8, 8), (32, 8, 3, 3), (1, 32, 8, 8)), "lowered_macs"),
        (conv((1, 24, 8, 8), (32, 24, 1, 1), (1, 32, 8, 8)), "lowered_macs"),
        (Operator("Gemm", ((1, 96), (10,)), ((1, 10),)), "vector_macs"),
        (Operator("Gemm", ((49, 96), (192,)), ((49, 192),)), "gemm_macs"),
        (Operator("MatMul", ((1, 3, 49, 64), (1, 3, 64, 49)), ((1, 3, 49, 49),)), "matmul_macs"),
        (Operator("Transpose", ((1, 8, 4, 16),), ((1, 4, 8, 16),)), "transposed_mb"),
        (Operator("Transpose", ((1, 8, 4, 16),), ((1, 8, 16, 4),)), "scattered_mb"),
        (Operator("Softmax", ((1, 3, 49, 49),), ((1, 3, 49, 49),)), "softmax_mb"),
        (Operator("LayerNormalization", ((49, 96), (96,)), ((49, 96),)), "normalized_mb"),
        (Operator("Gelu", ((49, 96),), ((49, 96),)), "activated_mb"),
        (Operator("Concat", ((1, 8, 4, 4), (1, 8, 4, 4)), ((1, 16, 4, 4),)), "copied_mb"),
        (Operator("GlobalAveragePool", ((1, 16, 7, 7),), ((1, 16, 1, 1),)), "reduced_mb"),
        (Operator("Add", ((1, 16, 7, 7), (1, 16, 7, 7)), ((1, 16, 7, 7),)), "elementwise_mb"),
        (Operator("ReorderInput", ((1, 24, 7, 7),), ((1, 32, 7, 7),)), "reordered_mb"),
        (Operator("Reshape", ((1, 16, 7, 7), (3,)), ((1, 16, 49),)), "views"),
    ],
)
def test_every_kind_of_work_has_its_own_feature(operator: Operator, feature: str) -> None:
    found = cost_features([operator])
    kinds = {name for name in found if name.endswith("_macs") or name == feature}
    assert kinds == {feature}
    assert found[feature] > 0


def test_a_fused_shortcut_counts_as_traffic() -> None:
    shapes = (1, 16, 8, 8), (16, 16, 1, 1), (1, 16, 8, 8)
    alone, fused = cost_features([conv(*shapes)]), cost_features([conv(*shapes, (1, 16, 8, 8))])
    assert fused["tensors_mb"] == pytest.approx(alone["tensors_mb"] * 1.5)


def test_macs_add_up_and_cold_weights_grow_faster() -> None:
    layer = conv((1, 512, 7, 7), (512, 512, 3, 3), (1, 512, 7, 7))
    one, three = cost_features([layer]), cost_features([layer] * 3)
    assert three["dense_macs"] == pytest.approx(3 * one["dense_macs"])
    assert three["cold_weights_mb"] > 3 * one["cold_weights_mb"]
    assert three["cold_weights_mb"] < three["weights_mb"]


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 3, 5, 7]), st.integers(1, 40), st.integers(1, 2))
def test_no_shape_yields_a_negative_or_unknown_feature(cin: int, cout: int, taps: int, side: int, stride: int) -> None:
    output = -(-side // stride)
    found = cost_features([conv((1, cin, side, side), (cout, cin, taps, taps), (1, cout, output, output))])
    assert set(found) <= set(FEATURES)
    assert all(value > 0 for value in found.values())


def test_transformer_features_are_features() -> None:
    assert set(TRANSFORMER_FEATURES) < set(FEATURES)

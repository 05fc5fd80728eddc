from __future__ import annotations

from dataclasses import replace

import pytest

from tcs_edge.latency.reference import Reference, reference, rows_of
from tcs_edge.specs.profile import load_profile


def without(found: Reference, *sizes: int) -> Reference:
    """Return the reference machine without the rows of these sizes."""
    return replace(found, rows=tuple(row for row in found.rows if row.img_size not in sizes))


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_measured_rows_are_returned_unchanged(threads: int) -> None:
    rows = rows_of(load_profile("x86-avx512"), "onnxruntime", "fp32", min(threads, 2))
    for row in rows[::20]:
        found = reference(threads).latency(row.model, row.img_size)
        assert found is not None
        assert (found.p50_ms, found.low_ms, found.high_ms) == (row.p50_ms, row.low_ms, row.high_ms)


@pytest.mark.parametrize("model", ["resnet18", "mobilenetv2_100", "vit_tiny_patch16_224", "ghostnet_100"])
def test_rows_of_other_sizes_correct_the_prediction(model: str) -> None:
    real = reference(1).latency(model, 96)
    between = without(reference(1), 96).latency(model, 96)
    alone = without(reference(1), 32, 64, 96, 128, 160, 192, 224).latency(model, 96)
    assert real is not None
    assert between is not None
    assert alone is not None
    assert between.p50_ms == pytest.approx(real.p50_ms, rel=0.2)
    assert between.low_ms <= real.p50_ms <= between.high_ms
    assert "64 and 128 px" in between.how
    assert alone.how.startswith("predicted")
    assert alone.p50_ms == reference(1).prediction(model, 96).p50_ms


def test_unlisted_models_and_sizes_have_no_latency() -> None:
    assert reference(1).latency("nobody", 96) is None
    assert reference(1).latency("lcnet_050", 512) is None

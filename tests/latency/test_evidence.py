"""Rows measured in the runtime itself correct the estimates from published rows of other runtimes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from tcs_edge.latency.board import Traits
from tcs_edge.latency.device import DeviceLatencies, device_latencies
from tcs_edge.latency.reference import reference, rows_of
from tcs_edge.latency.transfer import Transfer, by_proxy, corrected
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.profiling.measure import DEFAULT_MODELS
from tcs_edge.specs.profile import LatencyRow, load_profile
from tcs_edge.specs.target import load_target

BOARDS = ("raspberrypi5", "raspberrypi4", "raspberrypi3", "jetson-orin-nano", "android-arm64", "intel-n5105")


def measured(ms: Mapping[str, float], threads: int = 4) -> list[LatencyRow]:
    shared = {"img_size": 224, "runtime": "onnxruntime", "threads": threads, "precision": "fp32"}
    return [
        LatencyRow(
            model=name, p50_ms=p50, low_ms=p50, high_ms=p50, source="measured", citation="test", architecture="aarch64",
            device="a board", **shared,
        )
        for name, p50 in ms.items()
    ]  # fmt: skip


def merged(board: str, factors: Sequence[float], runtime: str = "onnxruntime") -> DeviceLatencies:
    """Latencies with rows of `measure`'s networks that differ from their estimates by `factors`."""
    target = load_target(board)
    known = load_profile(target.profile)
    estimates = device_latencies(target, known)
    names = DEFAULT_MODELS[: len(factors)]
    ms = {name: by * estimates.latency(name, 224).p50_ms for name, by in zip(names, factors, strict=True)}
    rows = measured(ms, target.threads)
    profile = known.replaced(rows=known.rows + tuple(rows), citations=known.citations | {"test": "made up"})
    return device_latencies(target, profile, runtime=runtime)  # type: ignore[arg-type]


def typical_factor(known: DeviceLatencies, names: Sequence[str] = tuple(CANDIDATES)) -> float:
    found = [known.latency(name, 224) for name in names]
    return statistics.median(math.sqrt(each.high_ms / each.low_ms) for each in found)


def unmeasured() -> list[str]:
    return [name for name in CANDIDATES if name not in DEFAULT_MODELS]


def test_the_networks_of_measure_are_known_on_the_reference() -> None:
    """A network without operators there would be measured in vain."""
    for name in DEFAULT_MODELS:
        assert name in CANDIDATES
        assert reference(4).latency(name, 224) is not None


@pytest.mark.parametrize("board", BOARDS)
def test_measured_rows_near_their_estimates_narrow_all_others(board: str) -> None:
    factors = np.exp(np.random.default_rng(0).normal(0, 0.1, len(DEFAULT_MODELS)))
    before, after = merged(board, ()), merged(board, factors)
    assert typical_factor(after, unmeasured()) < 0.97 * typical_factor(before, unmeasured())
    assert typical_factor(after, DEFAULT_MODELS) < 1.01


@pytest.mark.parametrize("board", ["raspberrypi5", "raspberrypi4"])
def test_a_slower_board_is_slower_for_all_students(board: str) -> None:
    before, after = merged(board, ()), merged(board, [1.5] * len(DEFAULT_MODELS))
    logs = [math.log(after.latency(name, 224).p50_ms / before.latency(name, 224).p50_ms) for name in unmeasured()]
    assert math.exp(statistics.median(logs)) == pytest.approx(1.5, rel=0.1)


def test_measured_rows_that_scatter_widen_the_others() -> None:
    factors = np.exp(np.random.default_rng(0).normal(0, 0.6, len(DEFAULT_MODELS)))
    assert typical_factor(merged("raspberrypi4", factors), unmeasured()) > typical_factor(merged("raspberrypi4", ()))


def test_openvino_on_arm_stays_with_the_published_pairs() -> None:
    """On Arm it is faster than onnxruntime by more than on x86."""
    before, after = (merged("raspberrypi5", factors, "openvino") for factors in ((), [1.0] * len(DEFAULT_MODELS)))
    for name in ("starnet_s1", "resnet18"):
        assert after.latency(name, 224).p50_ms == pytest.approx(before.latency(name, 224).p50_ms)


@pytest.fixture
def published() -> Transfer:
    found = by_proxy(rows_of(load_profile("raspberrypi4"), "ncnn", "fp32", 4), reference(4), "onnxruntime")
    assert found is not None
    return found


def true_ms(published: Transfer, name: str, error: float) -> float:
    found = reference(4).prediction(name, 224)
    assert found is not None
    factor = published.factor(name, Traits(found.shares, found.p50_ms, 224))
    return found.p50_ms * math.exp(factor.center + error)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_interval_holds_nine_of_ten_students(published: Transfer, count: int) -> None:
    """Simulated boards whose error has a part that all networks share, and a part of each network."""
    rng, names, inside = np.random.default_rng(0), [*DEFAULT_MODELS[:count], "starnet_s1"], []
    for _ in range(400):
        *errors, error = rng.normal(0, 0.15) + rng.normal(0, 0.2, len(names))
        own = zip(names[:-1], errors, strict=True)
        rows = measured({name: true_ms(published, name, each) for name, each in own})
        found = corrected(published, rows, reference(4))
        assert found is not None
        assert found.correction is not None
        inside.append(abs(error - found.correction.log) <= found.correction.half)
    assert 0.86 < np.mean(inside) < 0.99


def test_networks_without_operators_correct_nothing(published: Transfer) -> None:
    assert corrected(published, measured({"nobody": 9.0, "deit_tiny_patch16_224": 90.0}), reference(4)) is None

"""Published latencies that are left out are predicted within the goals of docs/explanation/choice.md."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT.parent / "shared" / "latency"
needs_tables = pytest.mark.skipif(not TABLES.is_dir(), reason="the published tables are not in this checkout")


@pytest.fixture(scope="module")
def evaluate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("evaluate_transfer", ROOT / "benchmarks" / "evaluate_transfer.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["evaluate_transfer"] = module
    spec.loader.exec_module(module)
    return module


def test_devices_with_one_processor_are_one_board(evaluate: ModuleType) -> None:
    groups = {
        evaluate.group_of(device)
        for device in (
            "Raspberry Pi 5 Broadcom BCM2712, Cortex-A76",
            "Raspberry Pi 5 Broadcom BCM2712 Overclock to 2.9Ghz",
            "Rockchip RK3588 (Quad Core A76 2.4GHz + Quad Core A55 1.8GHz)",
            "Firefly RK3588S (4x A76 2.4 GHz as a Raspberry Pi 5, and 4x A55)",
        )
    }
    assert groups == {"Raspberry Pi 5"}
    assert evaluate.group_of("Khadas VIM3") == "Khadas VIM3"


def left_out(evaluate: ModuleType, words: Sequence[str], runtimes: Sequence[str]) -> list[Any]:
    series = [*evaluate.read_ncnn(TABLES / "ncnn.csv"), *evaluate.read_mlperf(TABLES / "mlperf_edge_cpu.csv")]
    evaluation = evaluate.Evaluation(series)
    chosen = [(one, own) for one, own in evaluation.boards if any(word in one.device for word in words)]
    chosen = [(one, own) for one, own in chosen if one.runtime in runtimes]
    return [each for one, own in chosen for each in evaluation.leave_out(one, own, lambda point: point.model)]


def require_goals(found: Sequence[Any]) -> None:
    published, predicted, half = np.array([(each.published, each.predicted, each.half) for each in found]).T
    error = np.abs(np.exp(predicted - published) - 1)
    assert np.median(error) <= 0.12
    assert np.quantile(error, 0.9) <= 0.35
    assert spearmanr(published, predicted)[0] >= 0.95
    assert 0.86 <= np.mean(np.abs(predicted - published) <= half) <= 0.94
    assert math.exp(np.median(half)) <= 1.6


@needs_tables
def test_left_out_networks_of_the_raspberry_pis_meet_the_goals(evaluate: ModuleType) -> None:
    found = left_out(evaluate, evaluate.BOARDS, ("ncnn", "tflite", "armnn"))
    assert len(found) == 240
    require_goals(found)


@needs_tables
@pytest.mark.parametrize("board", ["Raspberry Pi 4 Model", "Raspberry Pi 5 Broadcom BCM2712, C"])
def test_left_out_networks_meet_the_goals_on_each_raspberry_pi(evaluate: ModuleType, board: str) -> None:
    found = left_out(evaluate, [board], ("ncnn",))
    assert len(found) == 24
    require_goals(found)


@needs_tables
def test_the_evaluated_board_is_not_in_the_pooled_figures(evaluate: ModuleType) -> None:
    series = evaluate.read_ncnn(TABLES / "ncnn.csv")
    evaluation = evaluate.Evaluation(series)
    one, own = next((one, own) for one, own in evaluation.boards if "Raspberry Pi 4 Model" in one.device)
    pooled = evaluation.others(one)
    assert len(pooled) < len(evaluation.boards)
    assert all(points is not own for points in pooled)
    names = {other.device for other, points in evaluation.boards if any(points is kept for kept in pooled)}
    assert not [name for name in names if "Raspberry Pi 4" in name]

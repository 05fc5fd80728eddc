from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from tcs_edge.errors import DataError
from tcs_edge.latency.cost_model import (
    MODEL_FILE,
    TABLES_FILE,
    CostModel,
    ThreadModel,
    load_cost_model,
    shipped_cost_model,
)
from tcs_edge.latency.operators import FEATURES
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.specs.profile import LatencyRow, load_profile
from tcs_edge.specs.target import RuntimeName

SIZES = (32, 64, 96, 128, 160, 192, 224, 256)


def toy(**tables: dict[int, dict[str, float]]) -> CostModel:
    threads = {1: ThreadModel({"calls": 0.01, "gemm_macs": 0.02, "dense_macs": 0.03}, 0.8, 1.25)}
    return CostModel("here", threads, tables, 1.1, "made up")


def measured(threads: int, runtime: RuntimeName) -> list[LatencyRow]:
    rows = load_profile("x86-avx512").rows
    return [row for row in rows if (row.threads, row.runtime) == (threads, runtime) and row.img_size <= 256]


def test_a_prediction_is_the_sum_over_the_operators_with_its_interval() -> None:
    found = toy(net={64: {"calls": 10, "gemm_macs": 5, "dense_macs": 10}}).predict("net", 64, 1)
    assert found.p50_ms == pytest.approx(0.1 + 0.1 + 0.3)
    assert (found.low_ms, found.high_ms) == pytest.approx((0.4, 0.625))
    assert found.shares.transformer == pytest.approx(0.2)


def test_work_proportional_to_the_area_is_interpolated_exactly() -> None:
    tables = {size: {"calls": 10.0, "dense_macs": size**2 / 1e3} for size in (64, 128)}
    found = toy(net=tables).predict("net", 100, 1)
    assert found.p50_ms == pytest.approx(0.1 + 0.03 * 10)


def test_more_threads_than_measured_use_the_largest_measured_count() -> None:
    model = shipped_cost_model()
    assert model.predict("resnet18", 224, 8) == model.predict("resnet18", 224, 2)


def test_sizes_outside_the_tables_are_unknown() -> None:
    model = toy(net={64: {"calls": 1.0}, 128: {"calls": 1.0}})
    assert [model.knows("net", size) for size in (63, 64, 100, 128, 129)] == [False, True, True, True, False]
    assert not model.knows("other", 64)


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_operators_of_every_candidate_are_known(name: str) -> None:
    tables = shipped_cost_model().tables[name]
    assert set(tables) == set(SIZES)
    # The multiply-accumulates equal the candidate's own count up to borders and padding.
    macs = sum(value for feature, value in tables[224].items() if feature.endswith("_macs"))
    assert 0.85 < macs / CANDIDATES[name].macs_m < 1.45


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_shipped_model_meets_its_shipped_evaluation(runtime: RuntimeName) -> None:
    """Errors on the fitted rows must be at most the cross-validated errors over left-out families."""
    # OpenVINO was measured on a tenth of the rows.
    worst, covered = (0.25, 0.85) if runtime == "onnxruntime" else (0.35, 0.80)
    evaluation = json.loads(MODEL_FILE.read_text())["runtimes"][runtime]["evaluation"]
    model = shipped_cost_model(runtime)
    for threads in model.threads:
        rows = measured(threads, runtime)
        real = np.array([row.p50_ms for row in rows])
        guess = np.array([model.predict(row.model, row.img_size, threads).p50_ms for row in rows])
        stated = evaluation[str(threads)]
        assert np.median(np.abs(guess / real - 1)) <= stated["median_error"] <= 0.10
        assert np.quantile(np.abs(guess / real - 1), 0.9) <= stated["p90_error"] <= worst
        assert spearmanr(guess, real)[0] >= stated["rank_correlation"] >= 0.95
        assert covered <= stated["coverage_of_90_percent_band"] <= 0.97


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_coefficients_are_nonnegative(runtime: RuntimeName) -> None:
    for model in shipped_cost_model(runtime).threads.values():
        assert set(model.coefficients_ms) == set(FEATURES)
        assert min(model.coefficients_ms.values()) >= 0
        assert 0 < model.low_factor < 1 < model.high_factor


def test_a_prediction_takes_less_than_50_ms() -> None:
    model = shipped_cost_model()
    started = time.process_time()
    for name in CANDIDATES:
        model.predict(name, 200, 1)
    assert (time.process_time() - started) / len(CANDIDATES) < 0.05


def test_files_of_another_version_are_refused(tmp_path: Path) -> None:
    document = json.loads(MODEL_FILE.read_text()) | {"schema_version": 99}
    path = tmp_path / "cost_model.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="schema_version is 99"):
        load_cost_model(path, TABLES_FILE)

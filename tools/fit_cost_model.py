r"""Fit the cost model on a measured profile, and evaluate it on left-out families of architectures.

    python tools/fit_cost_model.py --profile profiles/x86-avx512.json --out tcs_edge/latency/cost_model.json

Each runtime and thread count has its own fit: non-negative least squares of the relative error. A ridge of weight PULL
on coefficient / prior - 1 pulls every coefficient towards a prior cost, because fifty networks cannot separate thirty
kinds of work. The priors are rounded costs from onnxruntime's profile of a few candidates on the reference machine.

Evaluation leaves out whole families, because all sizes and widths of an architecture have similar errors. The interval
is from the 5 % to the 95 % quantile of log(measured / predicted) over the left-out families, each family with the same
weight. The coverage of a family uses the interval of the other families.
Without --out the figures are printed and nothing is written.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import spearmanr

from tcs_edge.latency.cost_model import MODEL_FILE, MODEL_VERSION, TABLES_FILE, TABLES_VERSION
from tcs_edge.latency.operators import FEATURES
from tcs_edge.specs.profile import load_profile
from tcs_edge.utils.files import write_json
from tcs_edge.utils.reading import read_json

Vector = NDArray[np.float64]

# ms per unit of the feature with one thread; several threads start from this times MORE_THREADS.
PRIOR_MS = {
    "calls": 0.003, "views": 0.001, "reorders": 0.002, "stem_macs": 0.02, "depthwise_macs": 0.04,
    "depthwise_rows": 0.05, "lowered_macs": 0.04, "lowered_mb": 0.2, "lowered_groups": 0.001, "weights_mb": 0.02,
    "cold_weights_mb": 0.06, "vector_macs": 0.02, "pointwise_macs": 0.014, "dense_macs": 0.014, "conv_rows": 0.02,
    "tensors_mb": 0.03, "large_tensors_mb": 0.05, "gemm_macs": 0.016, "gemm_mb": 0.03, "matmul_macs": 0.02,
    "matmul_mb": 0.05, "matmuls": 0.001, "copied_mb": 0.1, "transposed_mb": 0.2, "scattered_mb": 2.0,
    "reordered_mb": 0.03, "activated_mb": 0.25, "softmax_mb": 0.25, "normalized_mb": 0.6, "reduced_mb": 0.1,
    "elementwise_mb": 0.05,
}  # fmt: skip
MORE_THREADS = 0.7
# OpenVINO runs grouped convolutions without copying their input first, and fuses operators that only move or add
# numbers. These features start from CHEAPER times the prior.
CHEAPER_IN_OPENVINO = (
    "lowered_macs", "lowered_mb", "lowered_groups", "scattered_mb", "elementwise_mb", "copied_mb", "reordered_mb",
)  # fmt: skip
CHEAPER = 0.25
FEWEST_FAMILIES = 10
RUNTIMES, THREADS = ("onnxruntime", "openvino"), (1, 2)
PULL = 0.5
TAIL = 0.05

# An architecture belongs to the first family whose name is part of its own name.
FAMILIES = (
    "lcnet", "mobilenetv1", "mobilenetv2", "mobilenetv3", "mobilenetv4", "mnasnet", "efficientnet", "tinynet",
    "ghostnet", "regnet", "repvit", "efficientformer", "edgenext", "mobilevit", "fastvit", "mobileone", "repvgg",
    "resnet", "convnext", "levit", "efficientvit", "xcit", "pvt", "swiftformer", "dla", "fasternet", "starnet",
    "hgnet", "vit", "deit",
)  # fmt: skip
SAME = {"deit": "vit", "tinynet": "efficientnet"}


def family(model: str) -> str:
    """Return the family of an architecture."""
    found = next(word for word in FAMILIES if word in model)
    return SAME.get(found, found)


@dataclass(frozen=True)
class Rows:
    """Measured rows of one runtime and thread count: features (rows, features), ms (rows,), and each row's family.

    `prior` (features,) is the prior cost in ms per unit.
    """

    prior: Vector
    models: NDArray[np.str_]
    sizes: NDArray[np.int_]
    features: Vector
    ms: Vector
    families: NDArray[np.str_]


def measured_rows(profile: Path, tables: Path, runtime: str, threads: int) -> Rows:
    """Return the profile's fp32 rows of one runtime with known operators."""
    counted = read_json(tables, TABLES_VERSION)["networks"]
    rows = [
        row
        for row in load_profile(profile).rows
        if (row.source, row.runtime, row.precision, row.batch, row.threads) == ("measured", runtime, "fp32", 1, threads)
        and str(row.img_size) in counted.get(row.model, {})
    ]
    return Rows(
        prior_ms(runtime, threads),
        np.array([row.model for row in rows]),
        np.array([row.img_size for row in rows]),
        np.array([[float(x) for x in counted[row.model][str(row.img_size)].split()] for row in rows]),
        np.array([row.p50_ms for row in rows]),
        np.array([family(row.model) for row in rows]),
    )


def prior_ms(runtime: str, threads: int) -> Vector:
    """Return the prior cost of each feature in ms per unit, (features,)."""
    cheaper = CHEAPER_IN_OPENVINO if runtime == "openvino" else ()
    prior = np.array([PRIOR_MS[name] * (CHEAPER if name in cheaper else 1.0) for name in FEATURES])
    return prior * (1.0 if threads == 1 else MORE_THREADS)


def fit(features: Vector, ms: Vector, prior: Vector) -> Vector:
    """Fit the coefficients (features,), all >= 0."""
    rows = features * prior / ms[:, None]
    pull = PULL * np.eye(len(prior))
    solution, _ = nnls(np.vstack([rows, pull]), np.concatenate([np.ones(len(ms)), PULL * np.ones(len(prior))]))
    return np.asarray(solution * prior)


def left_out_predictions(rows: Rows) -> Vector:
    """Predict each row with a model that was fitted without its family."""
    predicted = np.empty_like(rows.ms)
    for name in np.unique(rows.families):
        inside = rows.families == name
        predicted[inside] = rows.features[inside] @ fit(rows.features[~inside], rows.ms[~inside], rows.prior)
    return predicted


def error_interval(logs: Vector, families: NDArray[np.str_]) -> tuple[float, float]:
    """Return (low, high) quantiles of log(measured / predicted), each family with weight 1."""
    weights = 1.0 / np.array([np.sum(families == name) for name in families])
    low, high = (np.quantile(logs, q, weights=weights, method="inverted_cdf") for q in (TAIL, 1 - TAIL))
    return float(low), float(high)


def coverage(logs: Vector, families: NDArray[np.str_]) -> float:
    """Return the fraction of rows inside an interval that was computed without their family."""
    inside = []
    for name in np.unique(families):
        own = families == name
        low, high = error_interval(logs[~own], families[~own])
        inside.extend((low <= logs[own]) & (logs[own] <= high))
    return float(np.mean(inside))


def figures(predicted: Vector, rows: Rows) -> dict[str, float]:
    """Return relative error (median, 90th percentile), rank correlation, and coverage of the 90 % interval."""
    error = np.abs(predicted / rows.ms - 1)
    return {
        "median_error": round(float(np.median(error)), 4),
        "p90_error": round(float(np.quantile(error, 0.9)), 4),
        "rank_correlation": round(float(spearmanr(predicted, rows.ms)[0]), 4),
        "coverage_of_90_percent_band": round(coverage(np.log(rows.ms / predicted), rows.families), 4),
        "rows": len(rows.ms),
        "families": len(np.unique(rows.families)),
    }


def anchored_errors(rows: Rows, predicted: Vector, near: Callable[[int], bool]) -> Vector:
    """Return |log| errors at the sizes of `near`, with predictions corrected by the model's rows at 64 and 224 px."""
    errors = []
    for model in np.unique(rows.models):
        own = rows.models == model
        ratio = dict(zip(rows.sizes[own].tolist(), np.log(rows.ms[own] / predicted[own]), strict=True))
        if not {64, 224} <= ratio.keys():
            continue
        for size, actual in ratio.items():
            if size not in (64, 224) and near(size):
                share = min(1.0, max(0.0, math.log(size / 64) / math.log(224 / 64)))
                errors.append(abs(actual - (1 - share) * ratio[64] - share * ratio[224]))
    return np.array(errors)


def print_families(rows: Rows, predicted: Vector) -> None:
    for name in np.unique(rows.families):
        ratio = predicted[rows.families == name] / rows.ms[rows.families == name]
        print(f"  {name:16} {len(ratio):3} rows  bias {np.exp(np.mean(np.log(ratio))):.2f}", end="")
        print(f"  median error {np.median(abs(ratio - 1)):.1%}  largest {np.max(abs(ratio - 1)):.1%}")


def fitted(given: argparse.Namespace, runtime: str) -> dict[str, Any]:
    """Fit the model of one runtime, print its evaluation, and return both in the format of the JSON file."""
    threads, evaluation, anchored = {}, {}, []
    for count in THREADS:
        rows = measured_rows(given.profile, given.tables, runtime, count)
        if len(np.unique(rows.families)) < FEWEST_FAMILIES:
            print(f"{runtime}, {count} thread(s): {len(rows.ms)} rows are too few to fit")
            continue
        predicted = left_out_predictions(rows)
        low, high = error_interval(np.log(rows.ms / predicted), rows.families)
        evaluation[str(count)] = figures(predicted, rows)
        anchored.append(anchored_errors(rows, predicted, lambda size: 64 <= size <= 224))
        beyond = anchored_errors(rows, predicted, lambda size: size < 64)
        print_evaluation(f"{runtime}, {count} thread(s)", evaluation[str(count)], (low, high), anchored[-1], beyond)
        print_families(rows, predicted)
        coefficients = fit(rows.features, rows.ms, rows.prior)
        threads[str(count)] = {
            "coefficients_ms": {name: float(f"{c:.4g}") for name, c in zip(FEATURES, coefficients, strict=True)},
            "low_factor": round(math.exp(low), 4),
            "high_factor": round(math.exp(high), 4),
        }
    count = sum(found["rows"] for found in evaluation.values())
    return {
        "citation": f"sum over the operators, fitted on {count:.0f} {runtime} rows measured there "
        "(tools/fit_cost_model.py)",
        "own_rows_factor": round(math.exp(np.quantile(np.concatenate(anchored), 0.9)), 3),
        "evaluation": evaluation,
        "threads": threads,
    }


def print_evaluation(
    what: str, found: dict[str, float], factors: tuple[float, float], anchored: Vector, beyond: Vector
) -> None:
    low, high = np.exp(factors)
    print(f"{what}, families left out: {found}, interval x {low:.2f} to {high:.2f}")
    for sizes, errors in (("sizes between", anchored), ("32 px", beyond)):
        if len(errors):
            within = np.exp(np.quantile(errors, 0.9))
            print(f"  own rows at 64 and 224 px: 90 % of {len(errors)} {sizes} within x {within:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--tables", type=Path, default=TABLES_FILE)
    parser.add_argument("--out", type=Path, help=f"normally {MODEL_FILE.name} beside the tables")
    given = parser.parse_args()
    runtimes = {runtime: fitted(given, runtime) for runtime in RUNTIMES}
    if given.out:
        reference = load_profile(given.profile).target
        write_json(given.out, {"schema_version": MODEL_VERSION, "reference": reference, "runtimes": runtimes})


if __name__ == "__main__":
    main()

"""Cost model that predicts the latency of an unmeasured network as a sum over its operators.

The model describes the reference machine, the one with a fully measured profile. It is linear with nonnegative
coefficients for each runtime and thread count, in ms per call, per 10^6 multiply-accumulates and per 10^6 bytes of
each kind of operator. The script tools/fit_cost_model.py fits the model.

The script tools/operator_tables.py counts the operators that onnxruntime executes. The same counts serve as
features for OpenVINO, although it fuses other operators.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from tcs_edge.errors import MissingError
from tcs_edge.latency.operators import (
    BYTES_PER_FLOAT,
    DENSE_FEATURES,
    MAC_FEATURES,
    SLOW_FEATURES,
    TRANSFORMER_FEATURES,
    WEIGHT_FEATURES,
    cold_mb,
)
from tcs_edge.specs.target import RuntimeName
from tcs_edge.utils.reading import read_json

TABLES_VERSION, MODEL_VERSION = 1, 2
MODEL_FILE, TABLES_FILE = (Path(__file__).parent / name for name in ("cost_model.json", "operator_tables.json"))

# Operator features of a network, by model, image size and name of the feature.
Tables = Mapping[str, Mapping[int, Mapping[str, float]]]
# Classes of the counted networks, and of the networks in published tables (ImageNet).
COUNTED_CLASSES, PUBLISHED_CLASSES = 10, 1000


@dataclass(frozen=True)
class Shares:
    """Fractions of a latency, 0..1, by kind of work: see the groups in `operators`."""

    dense: float = 0.0
    slow: float = 0.0
    weights: float = 0.0
    transformer: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """A latency in ms on the reference machine, with the 90 % interval `low_ms` to `high_ms`."""

    p50_ms: float
    low_ms: float
    high_ms: float
    shares: Shares


@dataclass(frozen=True)
class ThreadModel:
    """Coefficients in ms per unit of each feature, and the interval as factors on the prediction."""

    coefficients_ms: Mapping[str, float]
    low_factor: float
    high_factor: float

    def predict(self, features: Mapping[str, float]) -> Prediction:
        """Predict the latency of a network with these features."""
        cost = {name: self.coefficients_ms[name] * value for name, value in features.items()}
        total = sum(cost.values())

        def share(names: Sequence[str]) -> float:
            return sum(cost.get(name, 0.0) for name in names) / total

        groups = (DENSE_FEATURES, SLOW_FEATURES, WEIGHT_FEATURES, TRANSFORMER_FEATURES)
        return Prediction(
            total, total * self.low_factor, total * self.high_factor, Shares(*(share(names) for names in groups))
        )


@dataclass(frozen=True)
class CostModel:
    """Fitted model of one runtime, by thread count, with the operator features of known networks.

    `tables` are features by model and image size; `reference` names the profile of the reference machine.
    A prediction between two measured sizes of a network is corrected by their latencies. 90 % of such predictions
    are within a factor of `own_rows_factor`. `feature_dims` are the inputs of the final layer, for the networks of
    published tables.
    """

    reference: str
    threads: Mapping[int, ThreadModel]
    tables: Tables
    own_rows_factor: float
    citation: str
    feature_dims: Mapping[str, int] = field(default_factory=dict)

    def knows(self, model: str, img_size: int) -> bool:
        """Return True if the network's operators were counted at this size, or at a smaller and a larger one."""
        sizes = self.tables.get(model)
        return sizes is not None and min(sizes) <= img_size <= max(sizes)

    def sizes(self, model: str) -> list[int]:
        """Input sizes in pixels at which the network's operators were counted, ascending."""
        return sorted(self.tables.get(model, {}))

    def with_tables(self, tables: Tables) -> CostModel:
        """Return this model with the operator features of more networks."""
        return replace(self, tables={**self.tables, **tables}) if tables else self

    def macs_m(self, model: str, img_size: int) -> float:
        """Multiply-accumulates in 10^6 of the network's operators at this size; see `knows`."""
        features = self._features(model, img_size)
        return sum(features.get(name, 0.0) for name in MAC_FEATURES)

    def predict(self, model: str, img_size: int, threads: int) -> Prediction:
        """Predict the latency on the reference machine.

        Args:
            model: a network with known operators, see `knows`.
            img_size: pixels; between two known sizes every feature follows a power of the size.
            threads: at most the largest measured thread count is used.
        """
        usable = [count for count in self.threads if count <= threads]
        return self.threads[max(usable)].predict(self._features(model, img_size))

    def predict_published(self, model: str, img_size: int, threads: int) -> Prediction:
        """Predict like `predict`, for the network with ImageNet's classes, as published tables have it."""
        features = dict(self._features(model, img_size))
        weights_m = self.feature_dims.get(model, 0) * (PUBLISHED_CLASSES - COUNTED_CLASSES) / 1e6
        features["vector_macs"] = features.get("vector_macs", 0.0) + weights_m
        features["weights_mb"] = features.get("weights_mb", 0.0) + BYTES_PER_FLOAT * weights_m
        features["cold_weights_mb"] = cold_mb(features["weights_mb"])
        usable = [count for count in self.threads if count <= threads]
        return self.threads[max(usable)].predict(features)

    def _features(self, model: str, img_size: int) -> Mapping[str, float]:
        sizes = self.tables[model]
        if img_size in sizes:
            return sizes[img_size]
        known = sorted(sizes)
        index = bisect_left(known, img_size)
        small, large = known[index - 1], known[index]
        share = math.log(img_size / small) / math.log(large / small)
        return {
            name: _between(sizes[small].get(name, 0.0), sizes[large].get(name, 0.0), share)
            for name in sizes[small].keys() | sizes[large].keys()
        }


def _between(small: float, large: float, share: float) -> float:
    if small > 0 and large > 0:
        return math.pow(small, 1 - share) * math.pow(large, share)
    return (1 - share) * small + share * large


@cache
def shipped_cost_model(runtime: RuntimeName = "onnxruntime") -> CostModel:
    """Load the shipped model of the reference machine.

    Raises:
        MissingError: the installation is incomplete.
    """
    if not (MODEL_FILE.is_file() and TABLES_FILE.is_file()):
        raise MissingError("tcs-edge is installed without its latency model. Reinstall it: pip install tcs-edge.")
    return load_cost_model(MODEL_FILE, TABLES_FILE, runtime)


def load_cost_model(model: Path, tables: Path, runtime: RuntimeName = "onnxruntime") -> CostModel:
    """Load the model of one runtime from the two files that the scripts in tools/ write.

    Raises:
        DataError: a file is missing, is not JSON, or has another schema version.
    """
    document, counted = read_json(model, MODEL_VERSION), read_json(tables, TABLES_VERSION)
    fitted = document["runtimes"][runtime]
    threads = {int(count): ThreadModel(**entry) for count, entry in fitted["threads"].items()}
    networks = {name: _by_size(counted["features"], sizes) for name, sizes in counted["networks"].items()}
    return CostModel(
        document["reference"],
        threads,
        networks,
        fitted["own_rows_factor"],
        fitted["citation"],
        counted.get("feature_dims", {}),
    )


def _by_size(names: Sequence[str], sizes: Mapping[str, str]) -> dict[int, dict[str, float]]:
    return {
        int(size): {name: value for name, value in zip(names, map(float, values.split()), strict=True) if value}
        for size, values in sizes.items()
    }

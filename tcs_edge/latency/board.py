"""Log-linear model of a board against the reference machine, fitted to latencies of one runtime there.

For network n on a board:

    log(board ms / reference ms) = factor of the board + sum of coefficient x term(n)

The terms are the shares of the network's latency on the reference in a few kinds of work, and its input size. A board
has a dozen networks, too few for its own coefficients. Ridge regression therefore shrinks them towards those of all
other boards with rows of the same runtime.

The spread comes from residuals of networks that are left out of the fit, with all their sizes. It is pooled with the
spread on other boards. tools/fit_board_model.py fits the pooled figures; benchmarks/evaluate_transfer.py tests them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from tcs_edge.errors import MissingError
from tcs_edge.latency.cost_model import Shares
from tcs_edge.utils.reading import read_json

BOARD_MODEL_FILE = Path(__file__).parent / "board_model.json"
BOARD_MODEL_VERSION = 2
CONFIDENCE = 0.90
NORMAL_90 = 1.645  # standard deviations on either side that hold 90 % of a normal distribution
ANCHOR_PX = 224
TYPICAL_MS = 10.0
# Strength of the shrinkage of a board's coefficients, by leaving out networks on the boards that are no Raspberry Pi
# 4 or 5; 0.5 to 2 differ little. Weight of other boards' spread as a number of networks, when pooled with its own.
RIDGE, USUAL_NETWORKS = 0.5, 4
# Fewest networks for coefficients of a board's own; with fewer, only its factor is fitted.
FEWEST_NETWORKS = 6
# A published latency is an outlier beyond this factor from what the other networks predict. On the shipped boards, the
# largest factor is 1.7.
OUTLIER_FACTOR = 2.0


@dataclass(frozen=True)
class Traits:
    """Terms of a network at one input size; `reference_ms` is its latency on the reference machine."""

    shares: Shares
    reference_ms: float
    img_size: int

    def value(self, term: str) -> float:
        """Value of a term.

        - dense, slow, weights: shares of the latency on the reference, 0..1
        - large_dense: share of dense convolutions times log10 of the latency / 10 ms; Winograd's algorithm saves more
          in large convolutions
        - halvings: log2(224 px / input size)
        """
        if term == "large_dense":
            return self.shares.dense * math.log10(self.reference_ms / TYPICAL_MS)
        if term == "halvings":
            return math.log2(ANCHOR_PX / self.img_size)
        return float(getattr(self.shares, term))


@dataclass(frozen=True)
class Point:
    """A published latency: name of the network, its traits, and log(board ms / reference ms)."""

    model: str
    traits: Traits
    log: float


class Outlier(NamedTuple):
    """A published latency that is `factor` times what the other networks of the board predict."""

    model: str
    img_size: int
    factor: float


@dataclass(frozen=True)
class Pooled:
    """Figures of one runtime from all boards: coefficients by term, and the usual spread of left-out networks.

    `fp16_spread` is the spread on boards that compute in float16, if it differs.
    """

    coefficients: Mapping[str, float]
    spread: float = 0.0
    fp16_spread: float | None = None

    def in_arithmetic(self, fp16: bool) -> Pooled:
        """Return these figures with the spread of float16 or float32 arithmetic."""
        return replace(self, spread=self.fp16_spread) if fp16 and self.fp16_spread is not None else self

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms."""
        return tuple(self.coefficients)

    def values(self, traits: Traits) -> list[float]:
        """Values of the terms."""
        return [traits.value(term) for term in self.terms]


@dataclass(frozen=True)
class BoardFit:
    """Fit of one board: log factor = `intercept` + sum of coefficient x term.

    `half_width` is half of the 90 % prediction interval for a network without a row, in logarithms. `spread` is the
    root of the mean squared residual of its left-out networks; None for fewer than `FEWEST_NETWORKS`.
    """

    pooled: Pooled
    intercept: float
    coefficients: Mapping[str, float]
    half_width: float
    networks: int
    spread: float | None

    def log(self, traits: Traits) -> float:
        """Return log(board ms / reference ms) for a network."""
        values = self.pooled.values(traits)
        return self.intercept + sum(
            self.coefficients[term] * value for term, value in zip(self.pooled.terms, values, strict=True)
        )


def fit_board(points: Sequence[Point], pooled: Pooled) -> BoardFit:
    """Fit a board to at least one published latency."""
    models = sorted({point.model for point in points})
    residuals = left_out_residuals(points, pooled) if len(models) >= FEWEST_NETWORKS else []
    intercept, coefficients = solve(points, pooled)
    by_term = dict(zip(pooled.terms, coefficients, strict=True))
    half = half_width(pooled.spread, residuals, len(models))
    spread = math.sqrt(fmean(residual**2 for residual in residuals)) if residuals else None
    return BoardFit(pooled, intercept, by_term, half, len(models), spread)


def half_width(usual: float, residuals: Sequence[float], networks: int) -> float:
    """Half width of the 90 % prediction interval for another network, in logarithms.

    Args:
        usual: spread on other boards.
        residuals: residuals of the board's own left-out networks; may be empty.
        networks: number of networks that determine the board's factor.
    """
    squares = USUAL_NETWORKS * usual**2 + sum(residual**2 for residual in residuals)
    count = USUAL_NETWORKS + len(residuals)
    # Left-out residuals contain the error of the factor. Without them, it is added.
    error = 1.0 if residuals else 1 + 1 / networks
    return t_quantile(count - 1) * math.sqrt(squares / count * error)


def t_quantile(degrees: int) -> float:
    """Upper 5 % point of Student's t."""
    from scipy.special import stdtrit  # imported here, so that the choice of a student does not wait for it

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def left_out_residuals(points: Sequence[Point], pooled: Pooled) -> list[float]:
    """Residuals of every point, by network, when its network is left out of the fit with all its sizes."""
    residuals = []
    for model in sorted({point.model for point in points}):
        intercept, coefficients = solve([point for point in points if point.model != model], pooled)
        residuals += [
            point.log - intercept - sum(map(operator.mul, coefficients, pooled.values(point.traits)))
            for point in points
            if point.model == model
        ]
    return residuals


def without_outliers(points: Sequence[Point], pooled: Pooled) -> tuple[list[Point], list[Outlier]]:
    """Leave out outliers, the worst first; at least `FEWEST_NETWORKS` networks stay.

    Returns:
        The other points, and the outliers.
    """
    kept, outliers = sorted(points, key=lambda point: point.model), []
    while len({point.model for point in kept}) > FEWEST_NETWORKS:
        residuals = left_out_residuals(kept, pooled)
        worst = max(range(len(kept)), key=lambda number: abs(residuals[number]))
        if abs(residuals[worst]) <= math.log(OUTLIER_FACTOR):
            break
        point = kept.pop(worst)
        outliers.append(Outlier(point.model, point.traits.img_size, math.exp(residuals[worst])))
    return kept, outliers


def solve(points: Sequence[Point], pooled: Pooled) -> tuple[float, list[float]]:
    """Return the intercept and the coefficients, shrunk towards the pooled ones."""
    import numpy as np

    usual = np.array([pooled.coefficients[term] for term in pooled.terms])
    values = np.array([pooled.values(point.traits) for point in points]).reshape(len(points), len(usual))
    rest = np.array([point.log for point in points]) - values @ usual
    own = np.zeros(len(usual))
    if len({point.model for point in points}) >= FEWEST_NETWORKS - 1:
        centered = values - values.mean(0)
        normal = centered.T @ centered + RIDGE * np.eye(len(usual))
        own = np.linalg.solve(normal, centered.T @ (rest - rest.mean()))
    return float(np.mean(rest - values @ own)), (usual + own).tolist()


def pool(boards: Sequence[Sequence[Point]], terms: Sequence[str]) -> Pooled:
    """Fit common coefficients to many boards, each with its own factor and the same total weight; no spread."""
    import numpy as np

    rows, logs = [], []
    for points in boards:
        values = np.array([[point.traits.value(term) for term in terms] for point in points])
        own = np.array([point.log for point in points])
        weight = 1 / math.sqrt(len(points))
        rows.append(weight * (values - values.mean(0)))
        logs.append(weight * (own - own.mean()))
    stacked = np.vstack(rows)
    # A weak ridge towards zero, so that terms that are nearly collinear keep moderate coefficients.
    normal = stacked.T @ stacked + 3e-4 * len(boards) * np.eye(len(terms))
    found = np.linalg.solve(normal, stacked.T @ np.concatenate(logs))
    return Pooled(dict(zip(terms, found.tolist(), strict=True)))


def size_slope(points: Sequence[Point]) -> float | None:
    """Change of log(board ms / reference ms) for each halving of the input size, within the same networks.

    Returns:
        None if no network has several sizes.
    """
    sizes: dict[str, list[Point]] = {}
    for point in points:
        sizes.setdefault(point.model, []).append(point)
    products = squares = 0.0
    for own in sizes.values():
        center = fmean(point.traits.value("halvings") for point in own)
        for point in own:
            distance = point.traits.value("halvings") - center
            products += distance * point.log
            squares += distance**2
    return products / squares if squares else None


@dataclass(frozen=True)
class Int8Evidence:
    """Published log(int8 ms / float ms): `mean`, standard deviation `spread`, and number of `pairs` and `series`."""

    mean: float
    spread: float
    pairs: int
    series: int


@dataclass(frozen=True)
class BoardModel:
    """Shipped figures from published tables: by runtime, for input sizes, and for transformers.

    `halving` is the mean change of log(board ms / reference ms) for each halving of the input size, and
    `halving_spread` its spread between boards and runtimes. `transformer_log` is the additional slowdown of a network
    whose whole latency is in operators that only transformers have. `int8` is by runtime of the proxy, then by
    "dot product" or "no dot product".
    """

    runtimes: Mapping[str, Pooled]
    halving: float
    halving_spread: float
    halving_boards: int
    transformer_log: float
    int8: Mapping[str, Mapping[str, Int8Evidence]]


@cache
def shipped_board_model() -> BoardModel:
    """Load the shipped model.

    Raises:
        MissingError: the installation is incomplete.
    """
    if not BOARD_MODEL_FILE.is_file():
        raise MissingError("tcs-edge is installed without its board model. Reinstall it: pip install tcs-edge.")
    raw = read_json(BOARD_MODEL_FILE, BOARD_MODEL_VERSION)
    runtimes = {name: Pooled(**entry) for name, entry in raw["runtimes"].items()}
    size, int8 = raw["halving"], raw["int8"]
    ratios = {
        family: {core: Int8Evidence(**figures) for core, figures in by_core.items()} for family, by_core in int8.items()
    }
    return BoardModel(runtimes, size["mean"], size["spread"], size["series"], raw["transformer_log"], ratios)

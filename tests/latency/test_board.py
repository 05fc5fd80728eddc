from __future__ import annotations

import math

import numpy as np
import pytest

from tcs_edge.latency.board import (
    FEWEST_NETWORKS,
    Point,
    Pooled,
    Traits,
    fit_board,
    left_out_residuals,
    pool,
    shipped_board_model,
    size_slope,
)
from tcs_edge.latency.cost_model import Shares

TRUE = {"dense": -0.5, "slow": -0.8}


def network(number: int, img_size: int = 224) -> Traits:
    rng = np.random.default_rng(number)
    return Traits(Shares(dense=rng.uniform(), slow=rng.uniform(0, 0.5)), 10.0, img_size)


def board(factor: float, count: int, noise: float = 0.0, terms: dict[str, float] = TRUE) -> list[Point]:
    rng = np.random.default_rng(count)
    points = []
    for number in range(count):
        traits = network(number)
        log = factor + sum(value * traits.value(term) for term, value in terms.items())
        points.append(Point(f"net{number}", traits, log + noise * rng.normal()))
    return points


def test_pooled_coefficients_are_those_of_the_boards() -> None:
    found = pool([board(1.0, 12), board(3.0, 12)], tuple(TRUE))
    assert found.coefficients == pytest.approx(TRUE, abs=0.02)


def test_a_board_with_other_coefficients_moves_towards_its_own() -> None:
    usual, own = Pooled(TRUE, 0.2), {"dense": 0.5, "slow": -0.8}
    fit = fit_board(board(2.0, 12, terms=own), usual)
    assert TRUE["dense"] < fit.coefficients["dense"] < own["dense"]
    assert abs(fit.coefficients["dense"] - own["dense"]) < abs(TRUE["dense"] - own["dense"]) / 2


def test_few_networks_only_set_the_factor() -> None:
    few = board(2.0, FEWEST_NETWORKS - 3)
    fit = fit_board(few, Pooled(TRUE, 0.2))
    assert fit.coefficients == pytest.approx(TRUE)
    assert fit.intercept == pytest.approx(2.0)
    assert fit.spread is None
    assert fit.half_width > fit_board(board(2.0, 12), Pooled(TRUE, 0.2)).half_width


def test_the_interval_holds_nine_of_ten_new_networks() -> None:
    """Boards with a spread like the usual one: the interval of the other networks must hold a left-out one."""
    rng, inside = np.random.default_rng(0), []
    for number in range(300):
        points = [Point(p.model, p.traits, p.log + 0.2 * rng.normal()) for p in board(float(number % 5), 12)]
        fit = fit_board(points[1:], Pooled(TRUE, 0.2))
        inside.append(abs(points[0].log - fit.log(points[0].traits)) <= fit.half_width)
    assert 0.86 < np.mean(inside) < 0.97


def test_a_noisy_board_has_a_wider_interval() -> None:
    quiet, noisy = (fit_board(board(1.0, 14, noise), Pooled(TRUE, 0.2)) for noise in (0.05, 0.6))
    assert noisy.half_width > 1.5 * quiet.half_width


def test_a_network_is_left_out_with_all_its_sizes() -> None:
    """One network is off by a factor of 2 at both sizes. Its residuals must show all of it."""
    points = board(1.0, 12)
    odd = [Point("odd", network(50, size), math.log(2) + 1.0) for size in (112, 224)]
    plain = Pooled({"dense": 0.0, "slow": 0.0}, 0.2)
    flat = [Point(p.model, p.traits, 1.0) for p in points]
    found = left_out_residuals([*flat, *odd], plain)
    assert found[-2:] == pytest.approx([math.log(2)] * 2)


def test_the_slope_over_sizes_is_within_networks() -> None:
    """Small networks that run at small sizes only must not count as an effect of the size."""
    points = [
        Point(name, Traits(Shares(), 1.0, size), level + 0.1 * math.log2(224 / size))
        for name, level, sizes in (("a", 0.0, (112, 224)), ("b", 5.0, (56, 112)))
        for size in sizes
    ]
    assert size_slope(points) == pytest.approx(0.1)
    assert size_slope(points[::2]) is None


def test_the_shipped_figures_are_plausible() -> None:
    model = shipped_board_model()
    assert set(model.runtimes) == {"ncnn", "tflite", "armnn"}
    # Winograd's algorithm makes dense convolutions faster in ncnn, the more the larger they are.
    assert model.runtimes["ncnn"].coefficients["dense"] < 0
    assert model.runtimes["ncnn"].coefficients["large_dense"] < 0
    assert all(0.05 < pooled.spread < 0.5 for pooled in model.runtimes.values())
    assert 0 < model.transformer_log < math.log(10)


def test_boards_with_float16_arithmetic_have_their_own_spread():
    usual = Pooled(TRUE, 0.1, fp16_spread=0.3)
    plain, half = (fit_board(board(1.0, 3), usual.in_arithmetic(fp16)) for fp16 in (False, True))
    assert half.half_width > 2 * plain.half_width
    assert Pooled(TRUE, 0.1).in_arithmetic(True).spread == 0.1


def test_the_shipped_spread_of_ncnn_is_wider_in_float16():
    figures = shipped_board_model().runtimes["ncnn"]
    assert figures.in_arithmetic(True).spread > 1.2 * figures.in_arithmetic(False).spread

"""benchmarks/cost.py: its verdicts follow from its figures, and it runs the code of the package."""

from __future__ import annotations

import pytest

from tests.benchmark_modules import BENCHMARKS, benchmark

SCRIPT = BENCHMARKS / "cost.py"


@pytest.fixture(scope="module")
def cost():
    with benchmark("cost") as module:
        yield module


@pytest.fixture
def arguments(cost, monkeypatch):
    """arguments("--steps", 2): parse the options of the command line."""

    def parse(*words):
        monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, words)])
        return cost.parse_arguments()

    return parse


def measured(**changes):
    figures = {
        "ce": [10.0, 20.0, 10.0], "tcs": [9.8, 19.0, 9.9], "kd": [4.0, 8.0, 5.0], "simkd": [5.0, 9.0, 5.0],
        "ce_mb": 200.0, "tcs_mb": 205.0, "kd_mb": 400.0, "simkd_mb": 400.0,
        "bytes": 2.01, "grown_mb": 300.0, "pass": [28.0, 29.0, 30.0],
    } | changes  # fmt: skip
    return {
        "steps_per_second": {name: figures[name] for name in ("ce", "tcs", "kd", "simkd")},
        "memory_mb": [
            {name: {"training": figures[f"{name}_mb"] * noise} for name in ("ce", "tcs", "kd", "simkd")}
            for noise in (0.9, 1.0, 1.3)
        ],
        "teacher": {
            "images_per_second": {"pass": figures["pass"], "bare": [30.0] * 3},
            "bytes_per_feature": figures["bytes"],
        },
        "coordinates": {
            "1": {"memory": 20.0, "before": 280.0},
            "10": {"memory": 20.0, "before": figures["grown_mb"] - 20},
        },
    }


def test_requirements_are_ratios_with_their_spread(cost, arguments):
    requirements = {requirement.name: requirement for requirement in cost.judge(measured(), arguments())}
    assert len(requirements) == 8
    assert all(requirement.kept for requirement in requirements.values())
    assert requirements["step rate, tcs / ce"].value == pytest.approx(0.98)  # of 0.98, 0.95 and 0.99
    assert "0.950 to 0.990, 3 rounds" in requirements["step rate, tcs / ce"].detail
    assert requirements["training memory, tcs / ce"].value == pytest.approx(1.025)
    assert requirements["teacher pass / bare model"].value == pytest.approx(29 / 30)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"tcs": [9.0, 18.0, 9.0]}, "step rate, tcs / ce"),
        ({"kd": [6.0, 12.0, 6.0]}, "step rate, tcs / kd with the teacher"),
        ({"simkd": [6.0, 12.0, 6.0]}, "step rate, tcs / simkd with the teacher"),
        ({"ce_mb": 190.0}, "training memory, tcs / ce"),
        ({"kd_mb": 340.0}, "training memory, tcs / kd with the teacher"),
        ({"pass": [26.0, 26.0, 30.0]}, "teacher pass / bare model"),
        ({"bytes": 4.0}, "cache, bytes per feature"),
        ({"grown_mb": 330.0}, "fitting coordinates, memory at 10x / 1x images"),
    ],
)
def test_each_requirement_can_be_missed(cost, arguments, change, name):
    missed = [requirement for requirement in cost.judge(measured(**change), arguments()) if not requirement.kept]
    assert [requirement.name for requirement in missed] == [name]
    assert missed[0].line().startswith("MISSED")


def test_limits_are_options(cost, arguments):
    strict = arguments("--min-rate-ce", 0.99, "--max-bytes", 1)
    assert [requirement.name for requirement in cost.judge(measured(), strict) if not requirement.kept] == [
        "step rate, tcs / ce", "cache, bytes per feature",
    ]  # fmt: skip


@pytest.mark.slow
def test_every_method_is_trained_by_the_package(cost, arguments, tmp_path):
    few = arguments(
        "--shots", 7, "--batch-size", 32, "--steps", 2, "--rounds", 1, "--img-size", 32, "--student", "lcnet_050",
        "--cache-dir", tmp_path,
    )  # fmt: skip
    cost.PARTS["passes"](few)
    rates = cost.PARTS["rates"](few)
    assert {name: len(values) for name, values in rates.items()} == {"ce": 1, "tcs": 1, "kd": 1, "simkd": 1}
    assert all(rate > 0 for values in rates.values() for rate in values)
    found = cost.PARTS["teacher"](few)
    assert 2 <= found["bytes_per_feature"] < 2.3  # with few images the index is a larger part

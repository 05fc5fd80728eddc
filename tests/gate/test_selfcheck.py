"""The latency of a self-check replaces the estimate, but only for the same model."""

from __future__ import annotations

import json
from functools import partial

import pytest


@pytest.fixture
def run(make_run):
    return make_run(latency_ms=10.0)


@pytest.fixture
def write(run, selfcheck_of):
    """write(verdict="fail", ...): write a selfcheck.json for the run's model and return its path."""
    return partial(selfcheck_of, run)


def latency(result) -> dict:
    return next(check for check in json.loads(result.stdout)["checks"] if check["key"] == "latency_ms")


def test_the_measured_latency_replaces_the_estimate(cli, run, write):
    estimate = cli("gate", run, "--max-latency-ms", 5, "--json")
    measured = cli("gate", run, "--max-latency-ms", 5, "--json", "--selfcheck", write())
    assert (estimate.exit_code, measured.exit_code) == (1, 0)
    row = latency(measured)
    assert (row["value"], row["bound"]) == (3.0, 3.2)
    assert "measured on Raspberry Pi 4, 4 threads, onnxruntime 1.22.0" in row["detail"]


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "fail"},
        {"checks": []},
        {"checks": [{"name": "outputs", "passed": False, "detail": "off"}]},
        {"model_sha256": []},
        {"rows": []},
    ],
)
def test_a_self_check_that_did_not_pass_fails_the_gate(cli, run, write, changes):
    assert cli("gate", run, "--max-latency-ms", 50, "--selfcheck", write(**changes)).exit_code == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_sha256": ["0" * 64]}, "another model"),
        ({"kind": "x"}, "not a selfcheck.json"),
        ({"high_ms": 1.0}, "low_ms <= p50_ms"),
        ({"p50_ms": -1.0}, "p50_ms"),
    ],
)
def test_other_files_and_self_checks_of_other_models_are_refused(cli, run, write, changes, words):
    result = cli("gate", run, "--max-latency-ms", 50, "--selfcheck", write(**changes))
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_self_check_is_an_error_of_one_line(cli, run, tmp_path):
    result = cli("gate", run, "--max-latency-ms", 50, "--selfcheck", tmp_path / "none.json")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)

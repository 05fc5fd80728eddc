"""What a person reads about a proof."""

from __future__ import annotations

from tcs_edge.report.summary import print_validation
from tcs_edge.validation.accuracy import Accuracy
from tcs_edge.validation.checks import at_most, holds
from tcs_edge.validation.validate import Validation


def validation(*checks) -> Validation:
    accuracy = Accuracy(correct=9, total=10, value=0.9, low=0.596, high=0.982)
    return Validation(10, checks, {"pytorch": "f32"}, {"pytorch": accuracy}, {})


def test_a_pass_shows_accuracy_interval_and_verdict(capsys):
    print_validation(validation(holds("onnx: runs", True)))
    text = capsys.readouterr().out
    assert "90.00" in text
    assert "59.6 to 98.2" in text
    assert "reference" in text
    assert "verdict: pass (1 of 1 checks passed)" in text
    assert "FAILED" not in text


def test_a_failure_shows_what_was_measured_and_what_was_allowed(capsys):
    checks = [
        holds("fine", True),
        at_most("onnx: size", 12.5, 10.0, "MB"),
        holds("labels", False, "class [/x] differs"),
    ]
    print_validation(validation(*checks))
    lines = capsys.readouterr().out.splitlines()
    assert "FAILED onnx: size: 12.5 against 10 MB" in [line.strip() for line in lines]
    assert any("class [/x] differs" in line for line in lines)
    assert "verdict: fail (1 of 3 checks passed)" in lines[-1]


def test_nothing_checked_is_no_pass(capsys):
    print_validation(validation())
    assert "verdict: fail (0 of 0 checks passed)" in capsys.readouterr().out

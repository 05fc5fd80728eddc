"""Lines on the choice of the student: no gain is promised where none was measured."""

from __future__ import annotations

import pytest

from tcs_edge.report.choice import gain_line


@pytest.mark.parametrize(
    ("kind", "options", "student"),
    [
        ("cnn", {"student_init": "pretrained"}, "a pretrained student"),
        ("cnn", {"student_init": "weights.safetensors", "method": "kd"}, "a pretrained student"),
        ("transformer", {"student_init": "pretrained"}, "a pretrained student"),
        ("transformer", {"student_init": "random"}, "a transformer with random weights"),
    ],
)
def test_no_gain_is_expected_where_none_was_measured(resolved, kind, options, student):
    line = gain_line(resolved(kind, data="photos", teacher="dinov2", **options), kind)
    assert line.startswith(f"no gain expected from the teacher: {student} with a label for every image")
    assert "--unlabeled DIR" in line


@pytest.mark.parametrize(
    "options",
    [
        {"student_init": "random"},
        {"student_init": "pretrained", "method": "ce"},
        {"student_init": "pretrained", "unlabeled": "more"},
        {"student_init": "pretrained", "shots": 5},
        {"student_init": "pretrained", "shots": 5, "rest_unlabeled": True},
    ],
)
def test_other_runs_have_no_such_line(resolved, options):
    assert gain_line(resolved("cnn", data="photos", teacher="dinov2", **options), "cnn") is None

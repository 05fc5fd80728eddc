"""Lines on the choice of the student: no gain is promised where none was measured."""

from __future__ import annotations

import pytest

from tcs_edge.latency.device import Latency
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.report.choice import choice_lines, gain_line, probes_line
from tcs_edge.specs.target import load_target
from tcs_edge.students.choice import Assessment, Choice


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
    assert ("probes after the teacher's pass" in line) == (options["student_init"] != "random")


@pytest.mark.parametrize(
    "options",
    [
        {"student_init": "random"},
        {"student_init": "pretrained", "method": "ce"},
        {"student_init": "pretrained", "method": "kd", "kd": {"soft_labels": "student"}},
        {"student_init": "pretrained", "unlabeled": "more"},
        {"student_init": "pretrained", "shots": 5},
        {"student_init": "pretrained", "shots": 5, "rest_unlabeled": True},
    ],
)
def test_other_runs_have_no_such_line(resolved, options):
    assert gain_line(resolved("cnn", data="photos", teacher="dinov2", **options), "cnn") is None


ALL = {"student_init": "pretrained"}


@pytest.mark.parametrize(
    ("options", "measured", "end"),
    [
        (ALL, (0.802, 0.727, 253, True), "teacher 80.2 %, student 72.7 %. The teacher is more accurate: a gain over "
         "--method ce is possible"),
        (ALL, (0.730, 0.801, 700, True), "less accurate: expect no gain over --method ce"),
        (ALL, (0.730, 0.801, 100, False), "not clearly better or worse: expect little gain over --method ce"),
        (ALL | {"shots": 5}, (0.730, 0.801, 700, True), "The teacher is less accurate"),
        (
            ALL | {"shots": 5, "rest_unlabeled": True}, (0.730, 0.801, 700, True),
            "less accurate: the images without labels, which --method ce cannot use, make a gain likely",
        ),
    ],
)  # fmt: skip
def test_measured_probes_replace_the_expectation(resolved, options, measured, end):
    line = probes_line(resolved("cnn", data="photos", teacher="dinov2", **options), *measured)
    assert line.startswith(f"probes on {measured[2]} validation images: teacher ")
    assert line.endswith(end)


def test_an_estimate_comes_with_the_command_that_measures_it_over_ssh():
    latency = Latency(5.0, 2.5, 10.0, 4, "estimated", "made up")
    chosen = Assessment(CANDIDATES["lcnet_050"], 96, 4.0, 4.1, latency, None)
    _, line = choice_lines(Choice(chosen, (chosen,), ()), load_target("raspberrypi5"))
    command = "tcs-edge measure --ssh USER@HOST --target raspberrypi5 --model lcnet_050 --img-size 96"
    assert line == f"  not measured on that device; to do so: {command}"

"""Output about a run and its validation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tcs_edge.report.summary import print_latency, print_next_steps, print_stages, print_teacher, print_validation
from tcs_edge.runs.schema import Manifest, StageRecord
from tcs_edge.validation.accuracy import Accuracy
from tcs_edge.validation.checks import BETTER_THAN_CHANCE, LEAST_ACCURACY, at_most, holds
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


def test_stages_are_one_line_and_the_short_ones_are_added_up(capsys):
    seconds = {"images": 0.4, "teacher": 0.7, "distill": 7800.0, "export": 85.0, "validate": 9.0}
    stages = tuple(StageRecord(name=name, seconds=each, peak_memory_mb=900) for name, each in seconds.items())
    print_stages(Manifest.model_construct(stages=stages))
    assert capsys.readouterr().out.splitlines() == [
        "time: 2 h 12 min (distill 2 h 10 min, export 1 min 25 s, others 10 s)",
        "peak memory: 900 MB",
    ]


def test_latency_is_one_line(capsys, manifest):
    print_latency(Manifest.model_validate(manifest))
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("median latency of one image here, 1 thread: pytorch ")
    assert all(f"{name} " in line for name in manifest["latency_here"]["runtimes"])


def test_next_steps_name_the_run_and_a_limit_that_holds(capsys):
    print_next_steps(Path("runs/my pets"), validation(holds("onnx: runs", True)))
    assert capsys.readouterr().out.splitlines() == [
        "classify images:  tcs-edge predict 'runs/my pets' IMAGE",
        "copy to a device: tcs-edge bundle 'runs/my pets'",
        "check in CI:      tcs-edge gate 'runs/my pets' --min-accuracy 0.59",
    ]


def test_the_headline_has_parity_and_quality(capsys):
    good = replace(validation(holds("onnx: runs", True)), classes=2)
    print_validation(good)
    line = capsys.readouterr().out.splitlines()[-1]
    quality = "accuracy 90.0 % (95 % interval 59.6 to 98.2, chance 50.0 %)"
    assert line == f"verdict: pass (1 of 1 checks passed): exports validated, model quality: {quality}"
    print_validation(replace(good, checks=(*good.checks, holds(BETTER_THAN_CHANCE, False))))
    line = capsys.readouterr().out.splitlines()[-1]
    assert "verdict: fail (1 of 2 checks passed): exports validated, model quality at or below chance: " in line
    print_validation(replace(good, checks=(*good.checks, holds(LEAST_ACCURACY, False))))
    assert "exports validated, model quality below --min-accuracy: " in capsys.readouterr().out.splitlines()[-1]
    print_validation(replace(good, checks=(holds("onnx: runs", False), holds(BETTER_THAN_CHANCE, True))))
    assert "exports not validated, model quality: accuracy" in capsys.readouterr().out.splitlines()[-1]


def test_the_teachers_accuracy_is_beside_the_students(capsys, manifest):
    found = Manifest.model_validate(manifest)
    print_teacher(found)
    probed, own = found.teacher.probe_accuracy, found.accuracy["pytorch"]
    below = ", below its teacher" if own.high < probed else ""
    assert capsys.readouterr().out == (
        f"teacher probe: {100 * probed:.1f} % of the validation images; "
        f"student: {100 * own.value:.1f} % of the test images{below}\n"
    )
    worse = own.model_copy(update={"high": probed / 2})
    print_teacher(found.model_copy(update={"accuracy": {"pytorch": worse}}))
    assert capsys.readouterr().out.endswith("of the test images, below its teacher\n")
    print_teacher(found.model_copy(update={"teacher": None}))
    assert capsys.readouterr().out == ""

"""Limits on recall per class, macro F1 and calibration error, from the flag to the verdict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tcs_edge.validation.accuracy import Accuracy
from tcs_edge.validation.metrics import MetricsMeter

CLASSES = ("cat", "dog", "eel")


def edit(run: Path, change) -> None:
    path = run / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def with_matrix(run: Path, matrix: list[list[int]], confidence: float = 0.9) -> Path:
    """Give onnxruntime in `run` the results of a confusion matrix (rows are labels), all at one confidence."""
    counts = np.array(matrix)
    pairs = [(row, column) for row, column in np.argwhere(counts) for _ in range(counts[row, column])]
    labels, predicted = np.array(pairs).T
    rest = (1 - confidence) / (len(matrix) - 1)
    probabilities = np.where(np.eye(len(matrix))[predicted] == 1, confidence, rest)
    meter = MetricsMeter()
    meter.add(np.log(probabilities), labels)
    correct, total = int(counts.trace()), int(counts.sum())

    def change(document: dict) -> None:
        document["accuracy"]["onnxruntime"] = Accuracy.of_counts(correct, total).to_json()
        document["metrics"] = {"onnxruntime": meter.result().to_json()}

    edit(run, change)
    return run


@pytest.fixture
def uneven(make_run) -> Path:
    """Accuracy 93 %, but a recall of 30 % of dog and 60 % of eel."""
    return with_matrix(make_run(classes=CLASSES), [[120, 0, 0], [7, 3, 0], [2, 2, 6]])


def verdict(cli, run: Path, *flags: object) -> tuple[int, dict]:
    result = cli("gate", run, *flags, "--json")
    checks = {check["key"]: check for check in json.loads(result.stdout)["checks"]}
    return result.exit_code, checks


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--min-accuracy", 0.85), 0),
        (("--min-class-recall", 0.3), 0),
        (("--min-class-recall", 0.31), 1),
        (("--min-macro-f1", 0.7), 0),
        (("--min-macro-f1", 0.71), 1),
        (("--max-ece", 0.1), 0),
        (("--max-ece", 0.02), 1),
        (("--min-class-recall", 30), 2),
        (("--max-ece", 5), 2),
    ],
)
def test_a_limit_decides(cli, uneven, flags, code):
    assert cli("gate", uneven, *flags).exit_code == code


def test_the_numbers_of_a_run(cli, uneven):
    _, checks = verdict(cli, uneven, "--max-params-m", 9)
    f1 = [240 / 249, 6 / 15, 12 / 16]
    assert checks["class_recall/onnxruntime"]["value"] == pytest.approx(0.3)
    assert checks["macro_f1/onnxruntime"]["value"] == pytest.approx(np.mean(f1))
    assert checks["ece/onnxruntime"]["value"] == pytest.approx(abs(129 / 140 - 0.9))


def test_the_classes_under_the_limit_are_named_worst_first(cli, uneven):
    result = cli("gate", uneven, "--min-class-recall", 0.7)
    assert "FAIL lowest recall of a class, onnxruntime: dog, eel: 30 % is under the limit of 70 %" in result.stdout
    assert "[dog: 3 of 10 images, 95 % interval 10.8 to 60.3 %]" in result.stdout
    assert "cat" not in result.stdout


def test_at_most_five_classes_are_named(cli, make_run):
    classes = tuple("abcdefg")
    run = with_matrix(
        make_run(classes=classes), (np.eye(7, dtype=int) * 5 + np.roll(np.eye(7, dtype=int), 1, axis=1) * 5).tolist()
    )
    assert "a, b, c, d, e and 2 more: 50 % is under" in cli("gate", run, "--min-class-recall", 0.6).stdout


def test_a_class_without_test_images_cannot_be_checked(cli, make_run):
    run = with_matrix(make_run(classes=CLASSES), [[10, 0, 0], [0, 0, 0], [0, 1, 9]])
    code, checks = verdict(cli, run, "--min-class-recall", 0.1)
    assert code == 1
    (reason,) = checks["class_recall/onnxruntime"]["reasons"]
    assert reason == "cannot check this limit: no test image of dog. Add test images"
    code, checks = verdict(cli, run, "--min-macro-f1", 0.9)
    assert code == 0
    assert checks["macro_f1/onnxruntime"]["detail"] == "mean of 2 classes, without 1 that have no test images"


@pytest.mark.parametrize("flag", ["--min-class-recall", "--min-macro-f1", "--max-ece"])
def test_a_limit_without_a_number_fails(cli, make_run, onnx_path, flag):
    run = make_run()
    edit(run, lambda document: document.pop("metrics"))
    for model in (run, onnx_path):
        result = cli("gate", model, flag, 0.0 if flag.startswith("--min") else 1.0)
        assert result.exit_code == 1
        assert "cannot check this limit" in result.stdout


def test_logits_that_are_not_finite_leave_no_calibration_error(cli, make_run):
    run = make_run(classes=CLASSES)

    def change(document: dict) -> None:
        metrics = document["metrics"]["onnxruntime"]
        metrics["ece"] = None
        metrics["recalls"]["predicted"][2] -= 1

    edit(run, change)
    document = json.loads((run / "manifest.json").read_text())["metrics"]["onnxruntime"]["recalls"]
    assert document["predicted"][2] >= document["correct"][2]
    own = [
        2 * c / (t + p) for c, t, p in zip(*(document[key] for key in ("correct", "total", "predicted")), strict=True)
    ]
    edit(run, lambda d: d["metrics"]["onnxruntime"].update(macro_f1=sum(own) / 3))
    result = cli("gate", run, "--max-ece", 1)
    assert result.exit_code == 1
    assert "cannot check this limit: not all logits are finite" in result.stdout


def test_limits_in_a_file_have_both_levels(cli, uneven, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    limits = "min_class_recall = { fail = 0.2, warn = 0.4 }\nmin_macro_f1 = 0.5\nmax_ece = { warn = 0.01 }\n"
    Path("tcs-edge.toml").write_text(f"[gate]\n{limits}")
    code, checks = verdict(cli, uneven)
    outcomes = {key: check["outcome"] for key, check in checks.items() if key.endswith("/onnxruntime")}
    assert code == 0
    assert (outcomes["class_recall/onnxruntime"], outcomes["ece/onnxruntime"]) == ("warn", "warn")
    assert outcomes["macro_f1/onnxruntime"] == "pass"


def test_every_export_is_judged_by_its_own_metrics(cli, uneven):
    def add(document: dict) -> None:
        for key in ("accuracy", "metrics", "parity"):
            document[key]["openvino"] = document[key]["onnxruntime"]

    even = [[120, 0, 0], [0, 10, 0], [0, 0, 10]]
    edit(uneven, add)
    other = json.loads((uneven / "manifest.json").read_text())
    with_matrix(uneven, even)
    edit(uneven, lambda document: document["metrics"].update(openvino=other["metrics"]["openvino"]))
    _, checks = verdict(cli, uneven, "--min-class-recall", 0.9)
    outcomes = {key: check["outcome"] for key, check in checks.items() if key.startswith("class_recall")}
    assert outcomes == {"class_recall/onnxruntime": "pass", "class_recall/openvino": "fail"}


def test_the_baseline_holds_and_compares_them(cli, make_run, tmp_path):
    base, baseline = make_run("base"), tmp_path / "gate.json"
    assert cli("gate", base, "--max-params-m", 9, "--update-baseline", baseline).exit_code == 0
    values = json.loads(baseline.read_text())["values"]
    assert {"class_recall/onnxruntime", "macro_f1/onnxruntime", "ece/onnxruntime"} <= set(values)
    worse = make_run("worse", correct=60)
    for name in ("class_recall", "macro_f1", "ece"):
        flags = ("--baseline", baseline, "--max-change", f"{name}=0.05")
        assert cli("gate", base, *flags).exit_code == 0
        code, checks = verdict(cli, worse, *flags)
        assert (code, checks[f"{name}/onnxruntime"]["outcome"]) == (1, "fail")
    other_images = make_run("others", images="cd")
    code, checks = verdict(cli, other_images, "--baseline", baseline, "--max-change", "macro_f1=0.5")
    assert code == 1
    assert "other images" in checks["macro_f1/onnxruntime"]["reasons"][0]


def test_a_runtime_that_only_the_baseline_has_fails_the_change(cli, make_run, tmp_path):
    base = make_run("base")

    def add(document: dict) -> None:
        for key in ("accuracy", "metrics", "parity"):
            document[key]["openvino"] = document[key]["onnxruntime"]

    edit(base, add)
    baseline = tmp_path / "gate.json"
    cli("gate", base, "--max-params-m", 9, "--update-baseline", baseline)
    code, checks = verdict(cli, make_run("head"), "--baseline", baseline, "--max-change", "macro_f1=0.5")
    assert code == 1
    assert "the model does not" in checks["macro_f1/openvino"]["reasons"][0]


def test_a_name_of_a_class_cannot_act_on_a_report(cli, make_run, tmp_path):
    run, comment = make_run(), tmp_path / "comment.md"  # classes with markup, control and bidirectional characters
    result = cli("gate", run, "--min-class-recall", 0.99, "--markdown", comment, "--junit", tmp_path / "j.xml")
    assert result.exit_code == 1
    for text in (result.stdout, comment.read_text()):
        assert "lowest recall" in text
        assert not set("\u202e\x1b") & set(text)
    assert "<b>" not in comment.read_text()
    assert "@everyone" not in comment.read_text()

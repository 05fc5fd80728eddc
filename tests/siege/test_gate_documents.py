"""Manifests, baselines and self-checks that were changed: never a pass, and only the exit codes 1 and 2."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

LIMITS = ("--max-size-mb", 100, "--min-accuracy", 0.01)


def edited(path: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def linked(run: Path) -> None:
    exported = run / "export" / "model.onnx"
    exported.rename(run.parent / "outside.onnx")
    exported.symlink_to(run.parent / "outside.onnx")


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_a_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def without_exports(run: Path) -> None:
    for path in (run / "export").iterdir():
        path.unlink()
    edited(run / "manifest.json", lambda d: d.update(files=d["files"][:1]))


def verdict_twice(run: Path) -> None:
    text = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(text.replace('"verdict": "pass"', '"verdict": "fail", "verdict": "pass"'))


def twin_classes(document: dict, mark: str, alone: str = "a") -> None:
    names = document["dataset"]["classes"]
    names[:2] = [alone, f"a{mark}"]


RUNS = {
    "a linked export": (linked, 1),
    "an unlisted pipe": (lambda run: os.mkfifo(run / "export" / "b.onnx"), 1),
    "a pipe as export": (lambda run: replaced_by_a_pipe(run / "export" / "model.onnx"), 1),
    "no exports": (without_exports, 1),
    "an export without a comparison": (
        lambda run: edited(
            run / "manifest.json", lambda d: d["parity"].update(openvino=d["parity"].pop("onnxruntime"))
        ),
        1,
    ),
    "a narrower interval": (
        lambda run: edited(run / "manifest.json", lambda d: d["accuracy"]["onnxruntime"].update(low=0.9)),
        2,
    ),
    "a file with a long name": (
        lambda run: edited(run / "manifest.json", lambda d: d["files"][0].update(path="a" * 5000)),
        1,
    ),
    "two verdicts": (verdict_twice, 2),
    "classes of one name": (
        lambda run: edited(
            run / "manifest.json",
            lambda d: d["dataset"].update(classes=[d["dataset"]["classes"][0]] * len(d["dataset"]["classes"])),
        ),
        2,
    ),
    "classes that differ by a zero width space": (
        lambda run: edited(run / "manifest.json", lambda d: twin_classes(d, "\u200b")),
        2,
    ),
    "classes in two Unicode forms": (
        lambda run: edited(run / "manifest.json", lambda d: twin_classes(d, "\u0301", "\u00e1")),
        2,
    ),
    "a pipe as manifest": (lambda run: replaced_by_a_pipe(run / "manifest.json"), 2),
    "a device as manifest": (lambda run: replaced_by_a_device(run / "manifest.json"), 2),
    "no marker": (lambda run: (run / "tcs-edge-run.json").unlink(), 2),
    "a pipe as marker": (lambda run: replaced_by_a_pipe(run / "tcs-edge-run.json"), 2),
    "brackets as marker": (lambda run: (run / "tcs-edge-run.json").write_text("[" * 100_000), 2),
    "brackets as manifest": (lambda run: (run / "manifest.json").write_text("[" * 100_000), 2),
    "300 levels": (
        lambda run: (run / "manifest.json").write_text('{"schema_version": 1, "a": ' + "[" * 300 + "]" * 300 + "}"),
        2,
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_changed_run_never_passes(cli, make_run, name):
    change, code = RUNS[name]
    run = make_run()
    change(run)
    for model in (run, run / "manifest.json") if name != "no exports" else (run,):
        result = cli("gate", model, *LIMITS)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.stderr
    assert cli("gate", make_run("good"), *LIMITS, "--baseline", run).exit_code == 2


def test_a_manifest_with_a_byte_order_mark_is_read(cli, make_run):
    run = make_run()
    path = run / "manifest.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert cli("gate", run, *LIMITS).exit_code == 0


BASELINES = [
    lambda d: d["values"].update(size_mb=-1.0),
    lambda d: d["values"].update(size_mb=1e308),
    lambda d: d["values"].update(size_mb="5"),
    lambda d: d["values"].update({"accuracy/onnxruntime": 90.0}),
    lambda d: d["values"].update({"accuracy/onnxruntime": -0.5}),
    lambda d: d["values"].update(sise_mb=5.0),
    lambda d: d.update(schema_version=True),
]


@pytest.mark.parametrize("change", BASELINES)
def test_a_changed_baseline_is_refused(cli, make_run, tmp_path, change):
    run, baseline = make_run(), tmp_path / "gate.json"
    assert cli("gate", run, "--update-baseline", baseline).exit_code == 0
    edited(baseline, change)
    result = cli("gate", run, "--baseline", baseline, "--max-change", "size_mb=5%")
    assert result.exit_code == 2, result.output


def test_a_baseline_with_a_key_twice_is_refused(cli, make_run, tmp_path):
    run, baseline = make_run(), tmp_path / "gate.json"
    assert cli("gate", run, "--update-baseline", baseline).exit_code == 0
    baseline.write_text(baseline.read_text().replace('"total_mb":', '"total_mb": 999, "total_mb":'))
    result = cli("gate", run, "--baseline", baseline, "--max-change", "size_mb=5%")
    assert result.exit_code == 2
    assert "'total_mb' appears twice" in result.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"p50_ms": 1e308, "p90_ms": 1e308, "p99_ms": 1e308, "high_ms": 1e308},
        {"threads": 10**30},
        {"runs": -1},
        {"img_size": "32"},
        {"model_sha256": ["x"]},
        {"checks": [{"name": "outputs", "passed": "yes"}]},
    ],
)
def test_a_changed_self_check_is_refused(cli, make_run, selfcheck_of, changes):
    run = make_run()
    result = cli("gate", run, "--max-latency-ms", 50, "--selfcheck", selfcheck_of(run, **changes))
    assert result.exit_code == 2, result.output


def test_a_self_check_of_the_class_names_is_of_another_model(cli, make_run, selfcheck_of):
    run = make_run()
    names = next(
        f for f in json.loads((run / "manifest.json").read_text())["files"] if f["path"].endswith("labels.txt")
    )
    result = cli("gate", run, "--max-latency-ms", 50, "--selfcheck", selfcheck_of(run, model_sha256=[names["sha256"]]))
    assert result.exit_code == 2
    assert "another model" in result.stderr


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\ud800", "x" * 300 + "/manifest.json"])
@pytest.mark.parametrize("suffix", [".onnx", ".json", ""])
def test_a_path_that_the_system_refuses_is_usage(cli, make_run, name, suffix):
    for arguments in (
        (name + suffix,),
        (make_run(), "--baseline", name + suffix),
        (make_run("b"), "--selfcheck", name),
    ):
        result = cli("gate", *arguments, *LIMITS)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.stderr


def test_a_bug_is_exit_2_of_the_gate(cli, make_run, monkeypatch):
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tcs_edge.gate.check.check_model", broken)
    result = cli("gate", make_run(), *LIMITS)
    assert result.exit_code == 2
    assert "this is a bug in tcs-edge (ZeroDivisionError)" in result.stderr


@pytest.mark.parametrize("text", ["[gate]\nmax_size_mb = " + "9" * 5000, "a = " + "[" * 100_000, "\0", "[gate]\nx = 1"])
def test_spoiled_limits_are_usage(cli, make_run, monkeypatch, tmp_path, text):
    monkeypatch.chdir(tmp_path)
    Path("tcs-edge.toml").write_text(text)
    result = cli("gate", make_run(), *LIMITS)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1


def test_a_pipe_as_limits_does_not_wait(cli, make_run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("tcs-edge.toml")
    assert cli("gate", make_run(), *LIMITS).exit_code in (0, 2)

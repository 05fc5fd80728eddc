"""Tests of `tcs-edge gate` in CI: limits, baselines, reports, exit codes and run time."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

CI_VARIABLES = ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "GITLAB_CI", "CI_PROJECT_DIR")
HEAVY = ("torch", "timm", "torchvision", "onnx", "onnxruntime", "openvino", "nncf", "sklearn", "scipy", "numpy")
GATE_SECONDS = 1.0


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "repository"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in CI_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return place


def outcomes(result) -> dict[str, str]:
    return {check["key"]: check["outcome"] for check in json.loads(result.stdout)["checks"]}


def test_larger_model_fails_against_the_baseline(cli, make_run):
    base, same, bigger = make_run("base"), make_run("same"), make_run("bigger", weights=1_200_000)
    assert cli("gate", base, "--update-baseline", "gate.json").exit_code == 0
    Path("tcs-edge.toml").write_text(
        '[gate]\nbaseline = "gate.json"\nmax_size_mb = 2\n[gate.change]\nsize_mb = "5 %"\n'
    )
    good, bad = cli("gate", same), cli("gate", bigger)
    assert (good.exit_code, bad.exit_code) == (0, 1), good.output + bad.output
    assert "gate: pass" in good.stdout
    assert "↑ +0.2 MB (+20 %)" in bad.stdout
    assert "FAIL size, model.onnx: 0.2 MB (20 %) worse than the baseline, 5 % is allowed" in bad.stdout
    accepted = cli("gate", bigger, "--update-baseline", "gate.json")
    assert accepted.exit_code == 0, accepted.output
    assert cli("gate", bigger).exit_code == 0


def test_updating_the_baseline_checks_absolute_limits(cli, make_run):
    result = cli("gate", make_run(), "--max-size-mb", 0.5, "--update-baseline", "gate.json")
    assert result.exit_code == 1
    assert Path("gate.json").exists()


def test_updating_the_baseline_writes_all_reports(cli, make_run):
    Path("tcs-edge.toml").write_text('[gate]\nbaseline = "gate.json"\n[gate.change]\nsize_mb = "5 %"\n')
    run = make_run()
    arguments = ("gate", run, "--update-baseline", "gate.json", "--json", "--junit", "j.xml", "--markdown", "c.md")
    result = cli(*arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["schema_version"], document["verdict"], document["baseline"]) == (1, "pass", None)
    assert outcomes(result)["requirement/written as the baseline"] == "pass"
    assert ElementTree.parse("j.xml").getroot().get("failures") == "0"
    assert "written as the baseline" in Path("c.md").read_text(encoding="utf-8")
    before = Path("gate.json").read_text()
    (run / "export" / "model.onnx").write_bytes(b"v")
    refused = cli(*arguments)
    assert (refused.exit_code, json.loads(refused.stdout)["verdict"]) == (1, "fail")
    assert outcomes(refused)["requirement/written as the baseline"] == "fail"
    assert Path("gate.json").read_text() == before


def test_baseline_of_a_bare_onnx_file(cli, onnx_path):
    result = cli("gate", onnx_path, "--update-baseline", "gate.json", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["verdict"] == "pass"
    same = cli("gate", onnx_path, "--baseline", "gate.json", "--max-change", "size_mb=0")
    assert same.exit_code == 0, same.output


@pytest.mark.parametrize("flag", ["--update-baseline", "--junit", "--markdown"])
def test_unwritable_output_file_is_wrong_usage(cli, make_run, flag):
    Path("file").write_text("")
    result = cli("gate", make_run(), "--max-size-mb", 5, flag, "file/out")
    assert result.exit_code == 2
    assert "error: file cannot be written" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_unwritable_summary_is_wrong_usage(cli, make_run, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none" / "summary.md"))
    result = cli("gate", make_run(), "--max-size-mb", 5)
    assert result.exit_code == 2
    assert "GITHUB_STEP_SUMMARY" in result.stderr


@pytest.mark.parametrize(
    ("flags", "exit_code"),
    [
        (("--max-size-mb", 1), 0),
        (("--max-size-mb", 0.9), 1),
        (("--max-total-mb", 1), 0),
        (("--max-total-mb", 0.9), 1),
        (("--max-file-mb", 5), 2),
        (("--max-params-m", 0.6), 0),
        (("--max-params-m", 0.5), 1),
        (("--max-macs-m", 4), 0),
        (("--max-macs-m", 3), 1),
        (("--max-latency-ms", 20), 0),
        (("--max-latency-ms", 19), 1),
        (("--min-accuracy", 0.82), 0),
        (("--min-accuracy", 0.89), 1),
        (("--max-accuracy-drop", 0.03), 0),
        (("--max-accuracy-drop", 0.01), 1),
        (("--max-rel-diff", 0), 0),
        (("--min-top1-agreement", 1), 0),
        (("--max-peak-memory-mb", 1e9), 1),
        (("--max-change", "size_mb=1"), 1),
        (("--max-size-mb", -1), 2),
        (("--max-size-mb", "nan"), 2),
        (("--min-accuracy", 82), 2),
        (("--max-change", "size_mb"), 2),
        (("--max-change", "sise_mb=1"), 2),
        (("--max-size-mb", 5, "--baseline", "none.json"), 2),
        ((), 2),
    ],
)
def test_exit_code_of_every_limit(cli, make_run, flags, exit_code):
    result = cli("gate", make_run(), *flags)
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output
    if exit_code == 2:
        assert result.stdout == ""


def test_changed_export_fails_within_the_size_limit(cli, make_run):
    run = make_run()
    model = run / "export" / "model.onnx"
    model.write_bytes(b"v" + model.read_bytes()[1:])
    result = cli("gate", run, "--max-size-mb", 5, "--json")
    assert result.exit_code == 1
    assert outcomes(result)["requirement/files unchanged"] == "fail"
    assert "export/model.onnx (changed)" in result.stdout
    assert cli("gate", run, "--update-baseline", "gate.json").exit_code == 1
    assert not Path("gate.json").exists()


def test_run_that_failed_validation_fails(cli, make_run):
    assert cli("gate", make_run(passed=False), "--max-size-mb", 5).exit_code == 1


def test_missing_and_foreign_manifests_are_wrong_usage(cli, tmp_path):
    (tmp_path / "package.json").write_text('{"name": "x"}')
    (tmp_path / "manifest.json").write_text('{"schema_version": 7}')
    for path in (tmp_path, tmp_path / "none", tmp_path / "package.json", tmp_path / "manifest.json"):
        result = cli("gate", path, "--max-size-mb", 5)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
    assert "pip install --upgrade tcs-edge" in result.stderr


def test_baseline_of_another_target_needs_the_flag(cli, make_run):
    arguments = ("gate", make_run("head"), "--max-size-mb", 5, "--baseline", make_run("base", target="raspberrypi5"))
    assert cli(*arguments).exit_code == 2
    assert cli(*arguments, "--allow-other-target").exit_code == 0


def test_bare_file_passes_size_limits_and_fails_limits_without_a_number(cli, onnx_path, xml_path):
    for path in (onnx_path, xml_path):
        result = cli("gate", path, "--max-size-mb", 5, "--max-params-m", 1, "--json")
        assert result.exit_code == 0, result.output
        for flag in ("--min-accuracy", "--max-accuracy-drop", "--max-latency-ms", "--max-macs-m"):
            assert cli("gate", path, flag, 1).exit_code == 1


def test_all_reports_in_one_call(cli, make_run):
    run = make_run()
    result = cli("gate", run, "--max-size-mb", 0.5, "--json", "--junit", "out/j.xml", "--markdown", "out/c.md")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["schema_version"], document["verdict"], document["target"]) == (1, "fail", "raspberrypi4")
    assert ElementTree.parse("out/j.xml").getroot().get("failures") == "1"
    comment = Path("out/c.md").read_text(encoding="utf-8")
    assert "<b>" not in comment
    assert "@everyone" not in comment
    assert "كلب" in comment


def test_annotations_and_summary_on_github(cli, make_run, monkeypatch, in_an_empty_folder):
    summary = in_an_empty_folder / "summary.md"
    summary.write_text("from an earlier command\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(in_an_empty_folder.parent))
    Path("tcs-edge.toml").write_text("[gate]\nmax_size_mb = { warn = 0.5 }\nmax_latency_ms = 1\n")
    result = cli("gate", make_run(), "--json")
    assert result.exit_code == 1
    json.loads(result.stdout)
    commands = [line for line in result.stderr.splitlines() if line.startswith("::")]
    assert [line.split(" ")[0] for line in commands] == ["::error", "::warning"]
    assert all("file=repository/tcs-edge.toml," in line for line in commands)
    assert summary.read_text().startswith("from an earlier command\n### ❌ fail: the model misses a limit\n")


def test_code_quality_report_on_gitlab_only(cli, make_run, monkeypatch):
    run = make_run()
    cli("gate", run, "--max-size-mb", 0.5)
    assert not Path("gl-code-quality-report.json").exists()
    monkeypatch.setenv("GITLAB_CI", "true")
    cli("gate", run, "--max-size-mb", 0.5)
    (entry,) = json.loads(Path("gl-code-quality-report.json").read_text())
    assert entry["severity"] == "major"
    cli("gate", run, "--max-size-mb", 5)
    assert json.loads(Path("gl-code-quality-report.json").read_text()) == []


CODE = """
import sys
from tcs_edge.cli import main
sys.argv = ["tcs-edge", "gate", {run!r}, "--max-size-mb", "500", "--markdown", "c.md", "--junit", "j.xml"]
try:
    main()
except SystemExit as stop:
    print(stop.code, [name for name in {heavy} if name in sys.modules])
"""


def test_gate_takes_less_than_a_second_without_heavy_imports(make_run):
    command = [sys.executable, "-c", CODE.format(run=str(make_run(weights=20_000_000)), heavy=HEAVY)]
    # The best of three CPU times, to reduce the effect of the machine's other work.
    assert min(cpu_seconds(command) for _ in range(3)) < GATE_SECONDS


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_real_run_has_every_number_of_the_gate(cli, finished, tmp_path):
    generous = (
        "--max-size-mb", 50, "--max-total-mb", 50, "--max-params-m", 5, "--max-macs-m", 500, "--max-latency-ms", 500,
        "--max-peak-memory-mb", 50, "--min-accuracy", 0.3, "--max-accuracy-drop", 0.01,
        "--max-rel-diff", 1e-3, "--min-top1-agreement", 0.99,
        "--min-class-recall", 0.1, "--min-macro-f1", 0.2, "--max-ece", 0.9,
    )  # fmt: skip
    result = cli("gate", finished, *generous, "--json")
    assert result.exit_code == 0, result.output
    assert set(outcomes(result).values()) == {"pass"}
    runtimes = {key for key in outcomes(result) if key.startswith("accuracy/")}
    assert {"accuracy/onnxruntime", "accuracy/openvino"} <= runtimes
    alone = shutil.copy(finished / "manifest.json", tmp_path / "manifest.json")
    assert cli("gate", alone, *generous).exit_code == 0

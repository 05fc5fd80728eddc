"""The latency of a self-check replaces the estimate, but only for the same model."""

from __future__ import annotations

import hashlib
import json
from functools import partial

import pytest

from tcs_edge.utils.files import sha256_file


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
    assert "measured on Raspberry Pi 4 (aarch64) for the target raspberrypi4, 4 threads, onnxruntime" in row["detail"]


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


@pytest.mark.parametrize("suffixes", [(".param", ".bin", ".json"), (".tflite", ".json")])
def test_a_self_check_names_all_files_of_its_model_also_its_metadata(cli, run, write, suffixes):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "export" / "own").mkdir()
    paths = [run / "export" / "own" / f"model{suffix}" for suffix in suffixes]
    for path in paths:
        path.write_text(path.suffix)
        manifest["files"].append(
            {"path": path.relative_to(run).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        )
    (run / "manifest.json").write_text(json.dumps(manifest))
    check = write(model_sha256=[sha256_file(path) for path in paths])
    result = cli("gate", run, "--max-latency-ms", 50, "--selfcheck", check)
    assert "another model" not in result.stderr
    assert "measured on Raspberry Pi 4" in result.stdout
    sidecar = write(model_sha256=[sha256_file(run / "export" / "labels.txt")])
    assert "another model" in cli("gate", run, "--max-latency-ms", 50, "--selfcheck", sidecar).stderr


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


XEON = {"device": "Intel(R) Xeon(R) Processor @ 2.50GHz", "architecture": "x86_64"}


@pytest.mark.parametrize(
    "machine",
    [
        XEON,
        {"device": "AMD Ryzen 9", "architecture": "AMD64"},
        {"device": "Raspberry Pi 2 Model B", "architecture": "armv7l"},
        {"device": "a board", "architecture": "riscv64"},
    ],
)
@pytest.mark.parametrize("limits", [("--max-latency-ms", 50), ("--max-size-mb", 500)])
def test_a_self_check_of_another_architecture_is_refused(cli, run, write, machine, limits):
    result = cli("gate", run, *limits, "--selfcheck", write(machine=machine))
    assert result.exit_code == 2
    named = f"{machine['device']} ({machine['architecture']})"
    assert f"the self-check ran on {named}, but the target raspberrypi4 is 64-bit Arm" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["arm64", "ARM64", "aarch64", "armv8l"])
def test_names_of_one_architecture_are_equal(cli, run, write, name):
    check = write(machine={"device": "Raspberry Pi 4", "architecture": name})
    assert cli("gate", run, "--max-latency-ms", 5, "--selfcheck", check).exit_code == 0


@pytest.mark.parametrize("machine", [{}, {"device": "Raspberry Pi 4"}, {"device": "x", "architecture": None}])
def test_a_self_check_without_a_recorded_machine_does_not_count(cli, run, write, machine):
    check = write(machine=machine)
    result = cli("gate", run, "--max-latency-ms", 50, "--selfcheck", check, "--json")
    assert result.exit_code == 1
    assert latency(result)["value"] is None
    assert "without a recorded architecture" in latency(result)["reasons"][0]
    without_latency_limit = cli("gate", run, "--max-size-mb", 500, "--selfcheck", check)
    assert without_latency_limit.exit_code == 1
    assert "FAIL self-check on the device" in without_latency_limit.stdout


def test_no_baseline_is_written_from_a_self_check_without_a_machine(cli, run, write, tmp_path):
    result = cli("gate", run, "--update-baseline", tmp_path / "gate.json", "--selfcheck", write(machine={}))
    assert result.exit_code == 1
    assert not (tmp_path / "gate.json").exists()


def test_another_device_of_the_architecture_is_named_beside_the_latency(cli, run, write):
    check = write(machine={"device": "Raspberry Pi 5 Model B Rev 1.0", "architecture": "aarch64"})
    result = cli("gate", run, "--max-latency-ms", 50, "--selfcheck", check)
    assert result.exit_code == 0
    expected = "latency: measured on Raspberry Pi 5 Model B Rev 1.0 (aarch64) for the target raspberrypi4, 4 threads"
    assert expected in " ".join(result.stdout.split())


def test_a_self_check_of_a_bundle_for_another_target_is_refused(cli, run, write):
    result = cli("gate", run, "--max-latency-ms", 50, "--selfcheck", write(target="raspberrypi5"))
    assert result.exit_code == 2
    assert "a bundle for raspberrypi5" in result.stderr


@pytest.mark.parametrize(("target", "code"), [("raspberrypi4", 0), ("x86-avx2", 2), ("my-board", 1), (None, 1)])
def test_a_bare_file_is_checked_against_the_target_of_the_self_check(cli, run, write, onnx_path, target, code):
    digest = hashlib.sha256(onnx_path.read_bytes()).hexdigest()
    check = write(target=target, model_sha256=[digest])
    result = cli("gate", onnx_path, "--max-latency-ms", 50, "--selfcheck", check)
    assert result.exit_code == code, result.stderr
    if code == 1:
        assert "for a target without a recorded architecture" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("isa", "machine", "code"),
    [
        ("armv8.0-a", {"device": "Raspberry Pi 4", "architecture": "aarch64"}, 0),
        ("armv8.0-a", XEON, 1),
        ("x86-64-v4", XEON, 0),
        ("armv8.0-a", {}, 1),
        (None, XEON, 1),
    ],
)
def test_a_measured_latency_of_a_manifest_has_the_architecture_of_the_target(cli, run, isa, machine, code):
    path = run / "manifest.json"
    document = json.loads(path.read_text())
    document["student"]["latency"] |= {"source": "measured"} | machine
    document["target"] = {"name": "mine"} | ({"cpu": {"isa": isa}} if isa else {})
    path.write_text(json.dumps(document))
    result = cli("gate", run, "--max-latency-ms", 50, "--json")
    assert result.exit_code == code, result.stdout
    assert (latency(result)["value"] is None) == (code == 1)
    assert machine.get("device", "an unnamed device") in latency(result)["detail"]

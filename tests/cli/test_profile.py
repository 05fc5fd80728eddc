"""Tests of `tcs-edge profile` and `tcs-edge profile merge`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tcs_edge.specs.profile import load_profile

MODEL = "test_efficientnet"
QUICK = (
    "--target", "x86-avx512", "--model", MODEL, "--img-size", 32, "--threads", 1,
    "--rounds", 3, "--seconds", 0.01, "--max-spread", 1e9,
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("profile") / "mine.json"
    return cli("profile", *QUICK, "--out", out, "--json"), out


def test_profile_is_measured_and_written(recorded: tuple[Any, Path]) -> None:
    result, out = recorded
    assert result.exit_code == 0, result.stderr
    profile = load_profile(out)
    assert {row.runtime for row in profile.rows} == {"onnxruntime", "openvino"}
    assert json.loads(result.stdout) == json.loads(profile.model_dump_json(exclude_none=True))
    for row in profile.rows:
        assert (row.source, row.model, row.threads) == ("measured", MODEL, 1)
        assert row.p90_ms is not None
        assert row.p99_ms is not None
        assert row.peak_memory_mb is not None
        assert row.runtime_version == profile.machine[row.runtime]
        assert row.measured_on is not None
    assert "cpu" in profile.machine


def test_work_folder_of_complete_profile_is_removed(recorded: tuple[Any, Path]) -> None:
    _, out = recorded
    assert [path.name for path in out.parent.iterdir()] == ["mine.json"]


def test_existing_rows_are_kept(cli: Any, recorded: tuple[Any, Path], tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    out.write_bytes(recorded[1].read_bytes())
    result = cli("profile", *QUICK, "--img-size", 64, "--runtime", "onnxruntime", "--out", out)
    assert result.exit_code == 0, result.stderr
    kept = {(row.img_size, row.runtime) for row in load_profile(out).rows}
    assert kept == {(32, "onnxruntime"), (32, "openvino"), (64, "onnxruntime")}
    assert "3 rows" in result.stdout


def test_profile_of_another_target_is_left_unchanged(cli: Any, recorded: tuple[Any, Path], tmp_path: Path) -> None:
    out = edited(tmp_path, "pi.json")
    before = out.read_bytes()
    result = cli("profile", *QUICK, "--out", out)
    assert result.exit_code == 2
    assert "is a profile of raspberrypi4, not of x86-avx512" in result.stderr
    assert out.read_bytes() == before


def test_other_files_in_the_work_folder_are_kept(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.work").mkdir()
    (tmp_path / "mine.work" / "notes.txt").write_text("mine")
    result = cli("profile", *QUICK, "--runtime", "onnxruntime", "--out", tmp_path / "mine.json")
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in (tmp_path / "mine.work").iterdir()] == ["notes.txt"]


def test_noisy_latency_is_rejected_and_measurements_are_kept(cli: Any, tmp_path: Path) -> None:
    strict = (*QUICK[:-1], 0.01, "--retries", 1, "--out", tmp_path / "mine.json")
    result = cli("profile", *strict, "--rounds", 25)
    if result.exit_code == 0:
        pytest.skip("25 rounds of 10 ms agree within 1 % on this machine")
    assert result.exit_code == 1
    assert "too noisy, measuring again (1 of 1)" in result.stderr
    assert "not recorded: " in result.stderr or "no latency was recorded" in result.stderr
    assert (tmp_path / "mine.work" / "measured.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ((), 2, "pass --target"),
        (("--target", "x86-avx512"), 2, "pass --target"),
        (("--target", "x86-avx51", "--out", "p.json"), 2, "Did you mean x86-avx512"),
        ((*QUICK, "--model", "lcnet_05O", "--out", "p.json"), 2, "unknown student 'lcnet_05O'"),
        (
            (*QUICK, "--runtime", "tflite", "--out", "p.json"),
            2,
            "unknown --runtime 'tflite'. Known: onnxruntime, openvino.",
        ),
        (
            ("--model", "vit_tiny_patch16_224", "--target", "x86-avx512", "--img-size", 8, "--out", "p.json"),
            2,
            "nothing to measure: export failed",
        ),
        ((*QUICK, "--threads", 4096, "--out", "p.json"), 2, "--threads 4096 is more than the"),
        ((*QUICK, "--precision", "fp16", "--runtime", "onnxruntime", "--out", "p.json"), 1, "no float16 arithmetic"),
    ],
)
def test_wrong_usage_is_one_line(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[Any, ...], code: int, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("profile", *arguments)
    assert result.exit_code == code, result.stderr
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("p.json").exists()


def edited(folder: Path, name: str, **changes: Any) -> Path:
    """Write a profile of raspberrypi4 with one measured row."""
    row = {
        "model": "resnet18", "img_size": 224, "runtime": "onnxruntime", "threads": 4, "precision": "fp32",
        "p50_ms": 250.0, "low_ms": 240.0, "high_ms": 260.0, "source": "measured", "citation": "us",
        "runtime_version": "1.20.0", "measured_on": "2026-01-02",
    }  # fmt: skip
    document = {"schema_version": 1, "target": "raspberrypi4", "citations": {"us": name}, "rows": [row | changes]}
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def test_merge_shows_both_of_two_conflicting_rows(cli: Any, tmp_path: Path) -> None:
    a = edited(tmp_path, "a.json")
    b = edited(tmp_path, "b.json", p50_ms=400.0, low_ms=390.0, high_ms=410.0, measured_on="2026-03-04")
    result = cli("profile", "merge", b, a, "--out", tmp_path / "merged.json")
    assert result.exit_code == 0, result.stderr
    assert "250 ms (240 to 260, measured 2026-01-02)" in result.stderr
    assert "400 ms (390 to 410, measured 2026-03-04)" in result.stderr
    assert "b.json wins: it is newer" in result.stderr
    assert load_profile(tmp_path / "merged.json").rows[0].p50_ms == 400.0


def test_implausible_latency_names_row_and_bound(cli: Any, tmp_path: Path) -> None:
    seconds = edited(tmp_path, "s.json", p50_ms=0.25, low_ms=0.24, high_ms=0.26)
    result = cli("profile", "merge", seconds, "--out", tmp_path / "merged.json")
    assert result.exit_code == 2
    assert "resnet18 224 px onnxruntime 4 threads fp32 takes 0.25 ms" in result.stderr
    assert "cannot take less than" in result.stderr
    assert not (tmp_path / "merged.json").exists()


def test_outdated_runtime_version_gives_a_warning(cli: Any, tmp_path: Path) -> None:
    old = edited(tmp_path, "old.json", runtime_version="1.15.0")
    result = cli("profile", "merge", old, "--out", tmp_path / "merged.json")
    assert result.exit_code == 0
    assert "were measured with onnxruntime 1.15.0, raspberrypi4 runs 1.20.0. Measure again" in result.stderr


def test_custom_target_uses_merged_profile(cli: Any, tmp_path: Path) -> None:
    merged = cli("profile", "merge", "raspberrypi4", edited(tmp_path, "a.json"), "--out", tmp_path / "mine.json")
    assert merged.exit_code == 0, merged.stderr
    own = tmp_path / "mine.toml"
    own.write_text('name = "mine"\nextends = "raspberrypi4"\nprofile = "mine.json"\n')
    result = cli("candidates", "--target", own, "--img-size", 224, "--json")
    found = {one["name"]: one["latency"] for one in json.loads(result.stdout)["candidates"]}
    assert (found["resnet18"]["p50_ms"], found["resnet18"]["source"]) == (250.0, "measured")
    assert found["resnet34"]["source"] == "estimated"


def test_implausible_profile_of_a_target_is_rejected_on_use(cli: Any, tmp_path: Path) -> None:
    edited(tmp_path, "s.json", p50_ms=0.25, low_ms=0.24, high_ms=0.26)
    own = tmp_path / "mine.toml"
    own.write_text('name = "mine"\nextends = "raspberrypi4"\nprofile = "s.json"\n')
    result = cli("candidates", "--target", own)
    assert result.exit_code == 2
    assert "check the unit" in result.stderr


@pytest.mark.parametrize("name", ["gone.json", "raspberypi4"])
def test_missing_profile_is_named(cli: Any, tmp_path: Path, name: str) -> None:
    result = cli("profile", "merge", name, "--out", tmp_path / "merged.json")
    assert result.exit_code == 2
    assert name in result.stderr

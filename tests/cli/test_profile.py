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


BOARD = {"cpu": "Raspberry Pi 4 Model B Rev 1.5", "system": "Linux aarch64"}
WORKSTATION = {"cpu": "Intel(R) Xeon(R) Processor @ 2.50GHz", "system": "Linux x86_64"}


def edited(folder: Path, name: str, machine: dict[str, str] = BOARD, **changes: Any) -> Path:
    """Write a profile of raspberrypi4 with one row that `machine` measured."""
    row = {
        "model": "resnet18", "img_size": 224, "runtime": "onnxruntime", "threads": 4, "precision": "fp32",
        "p50_ms": 250.0, "low_ms": 240.0, "high_ms": 260.0, "source": "measured", "citation": "us",
        "runtime_version": "1.20.0", "measured_on": "2026-01-02",
    }  # fmt: skip
    document = {
        "schema_version": 1, "target": "raspberrypi4", "machine": machine, "citations": {"us": name},
        "rows": [row | changes],
    }  # fmt: skip
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def selfcheck(folder: Path, machine: dict[str, str], **changes: Any) -> Path:
    """Write the selfcheck.json of a bundle for raspberrypi4 that `machine` ran."""
    row = {
        "model": "resnet18", "img_size": 224, "batch": 1, "runtime": "onnxruntime", "runtime_version": "1.20.0",
        "threads": 4, "precision": "fp32", "p50_ms": 250.0, "p90_ms": 260.0, "p99_ms": 270.0, "low_ms": 240.0,
        "high_ms": 255.0, "runs": 100, "arithmetic": "f32", "source": "measured",
    }  # fmt: skip
    document = {
        "schema_version": 1, "kind": "tcs-edge selfcheck", "verdict": "pass", "target": "raspberrypi4",
        "measured": "2026-01-05T06:07:08+00:00", "machine": machine, "rows": [row | changes],
    }  # fmt: skip
    path = folder / "selfcheck.json"
    path.write_text(json.dumps(document))
    return path


def own_target(folder: Path, profile: str, base: str = "raspberrypi4") -> Path:
    path = folder / "mine.toml"
    path.write_text(f'name = "mine"\nextends = "{base}"\nprofile = "{profile}"\n')
    return path


REFUSED = [
    (WORKSTATION, "came from Intel(R) Xeon(R) Processor @ 2.50GHz (x86_64), but", "is 64-bit Arm"),
    (WORKSTATION | {"system": "Windows AMD64"}, "came from Intel(R) Xeon(R) Processor @ 2.50GHz (AMD64), but", "Arm"),
    (BOARD | {"system": "Linux armv7l"}, "came from Raspberry Pi 4 Model B Rev 1.5 (armv7l), but", "is 64-bit Arm"),
    ({"cpu": "Raspberry Pi 4"}, "came from Raspberry Pi 4 without a recorded architecture", "is 64-bit Arm"),
    ({}, "came from an unnamed device without a recorded architecture", "is 64-bit Arm"),
]


@pytest.mark.parametrize(("machine", "named", "needed"), REFUSED)
def test_merge_refuses_a_profile_of_another_architecture(
    cli: Any, tmp_path: Path, machine: dict[str, str], named: str, needed: str
) -> None:
    other = edited(tmp_path, "other.json", machine)
    result = cli("profile", "merge", "raspberrypi4", other, "--out", tmp_path / "merged.json")
    assert result.exit_code == 2
    assert f"{other}: 1 measured latency {named}" in result.stderr
    assert needed in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "merged.json").exists()


@pytest.mark.parametrize(
    ("machine", "named"),
    [
        ({"device": "AMD Ryzen 9", "architecture": "x86_64"}, "came from AMD Ryzen 9 (x86_64), but raspberrypi4"),
        ({"device": "Raspberry Pi 4"}, "came from Raspberry Pi 4 without a recorded architecture"),
        ({}, "came from an unnamed device without a recorded architecture"),
    ],
)
def test_merge_refuses_a_self_check_of_another_architecture(
    cli: Any, tmp_path: Path, machine: dict[str, str], named: str
) -> None:
    # A row cannot claim a machine, because the document has it.
    result = cli("profile", "merge", selfcheck(tmp_path, machine, architecture="aarch64"), "--out", tmp_path / "m.json")
    assert result.exit_code == 2
    assert named in result.stderr
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize(("machine", "named", "needed"), REFUSED)
def test_candidates_refuses_a_profile_of_another_architecture(
    cli: Any, tmp_path: Path, machine: dict[str, str], named: str, needed: str
) -> None:
    edited(tmp_path, "other.json", machine)
    result = cli("candidates", "--target", own_target(tmp_path, "other.json"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert needed in result.stderr


def test_candidates_refuses_the_shipped_profile_of_another_architecture(cli: Any, tmp_path: Path) -> None:
    result = cli("candidates", "--target", own_target(tmp_path, "x86-avx512"))
    assert result.exit_code == 2
    assert "measured latencies came from Intel(R) Xeon(R) Processor @ 2.50GHz (x86_64), but mine is" in result.stderr


@pytest.mark.parametrize(("machine", "named", "needed"), [REFUSED[0], REFUSED[-1]])
def test_compress_refuses_a_profile_of_another_architecture(
    cli: Any, tiny: Any, tmp_path: Path, machine: dict[str, str], named: str, needed: str
) -> None:
    edited(tmp_path, "other.json", machine)
    arguments = tiny(target=own_target(tmp_path, "other.json"), student="resnet18", img_size=224)
    result = cli(*arguments, "--out", tmp_path / "run", "--dry-run")
    assert result.exit_code == 2, result.stdout
    assert named in result.stderr
    assert needed in result.stderr
    result = cli(*arguments, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert named in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_measurement_of_another_board_is_named_beside_the_latency(cli: Any, tmp_path: Path) -> None:
    check = selfcheck(tmp_path, {"device": "Raspberry Pi 5 Model B Rev 1.0", "architecture": "aarch64"})
    newer = edited(tmp_path, "a.json", img_size=128, p50_ms=99.0, low_ms=98.0, high_ms=100.0)
    merged = cli("profile", "merge", "raspberrypi4", check, newer, "--out", tmp_path / "mine.json")
    assert merged.exit_code == 0, merged.stderr
    own = own_target(tmp_path, "mine.json")
    for size, board in ((224, "Raspberry Pi 5 Model B Rev 1.0"), (128, BOARD["cpu"])):
        shown = cli("candidates", "--target", own, "--img-size", size)
        assert f"measured latencies: 1 on {board} (aarch64)" in shown.stdout
        found = json.loads(cli("candidates", "--target", own, "--img-size", size, "--json").stdout)["candidates"]
        latency = next(one["latency"] for one in found if one["name"] == "resnet18")
        assert (latency["device"], latency["architecture"]) == (board, "aarch64")


def test_rows_of_another_machine_stay_refused_after_a_merge(cli: Any, tmp_path: Path) -> None:
    """A merge for an x86 target keeps the machine of every row, whatever the machine of the other files."""
    workstation = edited(tmp_path, "w.json", WORKSTATION, img_size=128)
    x86 = ("profile", "merge", workstation, "--target", "x86-avx512", "--out", tmp_path / "x86.json")
    assert cli(*x86).exit_code == 0
    document = json.loads((tmp_path / "x86.json").read_text())
    (tmp_path / "x86.json").write_text(json.dumps(document | {"machine": BOARD}))
    result = cli("profile", "merge", edited(tmp_path, "a.json"), tmp_path / "x86.json", "--out", tmp_path / "m.json")
    assert result.exit_code == 2
    assert "(x86_64), but raspberrypi4 is 64-bit Arm" in result.stderr


@pytest.mark.parametrize("target", ["raspberrypi5", "x86-avx512"])
def test_profile_measures_only_for_the_architecture_of_this_machine(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    other = {"raspberrypi5": "x86_64", "x86-avx512": "aarch64"}[target]
    monkeypatch.setattr("platform.machine", lambda: other)
    result = cli("profile", *QUICK, "--target", target, "--out", tmp_path / "mine.json")
    assert result.exit_code == 2
    assert f"({other}), but {target} is" in result.stderr
    assert "bundle-profiler" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_rows_of_another_architecture_in_out_are_refused(cli: Any, tmp_path: Path) -> None:
    document = json.loads(edited(tmp_path, "mine.json", BOARD).read_text()) | {"target": "x86-avx512"}
    (tmp_path / "mine.json").write_text(json.dumps(document))
    result = cli("profile", *QUICK, "--out", tmp_path / "mine.json")
    assert result.exit_code == 2
    assert "(aarch64), but x86-avx512 is x86-64" in result.stderr
    assert json.loads((tmp_path / "mine.json").read_text()) == document


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


@pytest.mark.parametrize("name", ["raspberrypi", "mine"])
def test_results_of_a_target_with_another_ones_profile_are_merged(cli: Any, tmp_path: Path, name: str) -> None:
    """A bundle for raspberrypi, or for a target of your own, states that name in its result."""
    base = edited(
        tmp_path,
        "result.json",
        machine=BOARD | {"cpu": "Raspberry Pi 5 Model B Rev 1.0"},
        p50_ms=38.0,
        low_ms=37.0,
        high_ms=39.0,
    )
    base.write_text(base.read_text().replace("raspberrypi4", name))
    target = own_target(tmp_path, "raspberrypi5", "raspberrypi5")
    given = ("--target", target) if name == "mine" else ()
    out = tmp_path / "merged.json"
    result = cli("profile", "merge", "raspberrypi5", base, "--out", out, *given)
    assert result.exit_code == 0, result.stderr
    merged = load_profile(out)
    assert merged.target == "raspberrypi5"
    assert len(merged.rows) == len(load_profile("raspberrypi5").rows) + 1


def test_a_result_of_your_own_target_needs_its_file(cli: Any, tmp_path: Path) -> None:
    own = edited(tmp_path, "result.json")
    own.write_text(own.read_text().replace("raspberrypi4", "mine"))
    result = cli("profile", "merge", own, "--out", tmp_path / "merged.json")
    assert result.exit_code == 2
    assert "Pass --target FILE" in result.stderr
    target = own_target(tmp_path, "not-yet.json")
    assert cli("profile", "merge", own, "--target", target, "--out", tmp_path / "merged.json").exit_code == 0


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

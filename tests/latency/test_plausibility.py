"""Tests of the plausibility check of latencies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tcs_edge.errors import SpecError
from tcs_edge.latency.plausibility import (
    bounds_ms,
    load_target_profile,
    objection,
    other_boards,
    require_plausible,
    stale_versions,
)
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.specs.profile import LatencyRow, Profile, load_profile, save_profile
from tcs_edge.specs.target import list_targets, load_target


def scaled(profile: Profile, factor: float) -> list[LatencyRow]:
    names = ("p50_ms", "low_ms", "high_ms")
    return [row.model_copy(update={name: getattr(row, name) * factor for name in names}) for row in profile.rows]


@pytest.mark.parametrize("name", list_targets())
def test_every_shipped_row_is_plausible(name: str) -> None:
    load_target_profile(load_target(name))


@pytest.mark.parametrize("factor", [1e-3, 1e3], ids=["seconds", "microseconds"])
@pytest.mark.parametrize("name", list_targets())
def test_wrong_units_are_caught_in_most_rows(name: str, factor: float) -> None:
    """One row is enough to refuse a profile. Some large networks on fast boards pass in microseconds."""
    target = load_target(name)
    rows = [row for row in scaled(load_profile(target.profile), factor) if row.model in CANDIDATES]
    caught = [row for row in rows if objection(row, target.cpu)]
    assert len(caught) > 0.6 * len(rows)


def test_the_lower_bound_is_macs_over_the_peak_rate() -> None:
    cpu = load_target("raspberrypi4").cpu
    lowest, highest = bounds_ms(1000.0, cpu, threads=4, precision="fp32")
    peak_macs_per_ms = 4 * 8 * 1.8e9 / 1e3
    assert lowest == pytest.approx(1000e6 / peak_macs_per_ms * 64 / 324)
    assert highest == pytest.approx(100 + 300 * 4 * 1000e6 / peak_macs_per_ms)
    assert bounds_ms(1000.0, cpu, 4, "int8")[0] == pytest.approx(lowest / 4)
    assert bounds_ms(1000.0, cpu, 8, "fp32")[0] == lowest


def hand_edited(folder: Path, factor: float) -> Path:
    raw = json.loads(load_profile("raspberrypi4").model_dump_json(exclude_none=True))
    for row in raw["rows"]:
        if row["model"] == "resnet18" and row["img_size"] == 224 and row["threads"] == 4:
            row |= {name: row[name] * factor for name in ("p50_ms", "low_ms", "high_ms")}
    path = folder / "mine.json"
    path.write_text(json.dumps(raw))
    return path


@pytest.mark.parametrize(
    ("factor", "bound"), [(1e-3, "cannot take less than"), (1e3, "more than")], ids=["seconds", "microseconds"]
)
def test_error_names_the_row_and_the_bound(tmp_path: Path, factor: float, bound: str) -> None:
    target = load_target("raspberrypi4").model_copy(update={"profile": str(hand_edited(tmp_path, factor))})
    with pytest.raises(SpecError) as caught:
        load_target_profile(target)
    message = str(caught.value)
    assert "resnet18 224 px" in message
    assert bound in message
    assert "check the unit" in message
    assert "\n" not in message


def test_an_unlisted_network_is_not_checked() -> None:
    profile = load_profile("x86-avx512")
    unlisted = profile.rows[0].model_copy(update={"model": "unlisted", "p50_ms": 1e-9})
    assert objection(unlisted, load_target("x86-avx512").cpu) is None


def test_rows_of_a_server_are_refused_for_a_board() -> None:
    board = load_target("raspberrypi-zero2w")
    with pytest.raises(
        SpecError, match=r"came from Intel\(R\) Xeon\(R\) .* \(x86_64\), but raspberrypi-zero2w is 64-bit"
    ):
        require_plausible(load_profile("x86-avx512"), board)
    of_fast_arm = load_profile("x86-avx512").replaced(machine={"cpu": "Ampere Altra", "architecture": "aarch64"})
    with pytest.raises(SpecError, match="that the rows were measured on raspberrypi-zero2w"):
        require_plausible(of_fast_arm, board)


def test_another_runtime_version_is_stale(tmp_path: Path) -> None:
    target = load_target("x86-avx512")
    profile = load_profile("x86-avx512")
    assert stale_versions(profile, target) == ()
    old = {"runtime_version": "1.19.0"}
    rows = tuple(row.model_copy(update=old) for row in profile.rows if row.runtime == "onnxruntime")
    (line,) = stale_versions(profile.model_copy(update={"rows": rows}), target)
    assert f"{len(rows)} latencies of x86-avx512 were measured with onnxruntime 1.19.0" in line
    assert "runs 1.31.1. Measure again with `tcs-edge profile --target x86-avx512`" in line


def test_estimated_rows_are_never_stale(tmp_path: Path) -> None:
    profile = load_profile("raspberrypi4").model_copy(update={"machine": {"onnxruntime": "1.0.0"}})
    save_profile(profile, tmp_path / "old.json")
    assert stale_versions(load_profile(tmp_path / "old.json"), load_target("raspberrypi4")) == ()


@pytest.mark.parametrize(
    ("device", "target", "others"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4", "raspberrypi5", 1),
        ("Raspberry Pi 4 Model B Rev 1.4", "raspberrypi", 1),
        ("Raspberry Pi Zero 2 W Rev 1.0", "raspberrypi3", 1),
        ("Raspberry Pi 400 Rev 1.0", "raspberrypi4", 0),
        ("Raspberry Pi Compute Module 5 Rev 1.0", "raspberrypi5", 0),
        ("Orange Pi 5", "raspberrypi5", 0),
    ],
)
def test_latencies_of_another_raspberry_pi_are_named(device: str, target: str, others: int) -> None:
    profile = load_profile("x86-avx512").replaced(machine={"cpu": device, "architecture": "aarch64"})
    lines = other_boards(profile, load_target(target))
    assert len(lines) == others
    assert all(f"came from {device} (aarch64), but {target} is" in line for line in lines)

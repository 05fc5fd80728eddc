from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.errors import SpecError, UnknownName, UsageError
from tcs_edge.specs.locate import shipped_files
from tcs_edge.specs.profile import load_profile
from tcs_edge.specs.target import TargetSpec, list_targets, load_target, refuse_amx_dynamic_int8

EXPECTED = {
    "raspberrypi",
    "raspberrypi3",
    "raspberrypi4",
    "raspberrypi5",
    "raspberrypi-zero2w",
    "x86-avx2",
    "x86-avx512",
    "jetson-orin-nano",
    "intel-n5105",
    "apple-m",
    "android-arm64",
}


def test_every_documented_target_is_shipped() -> None:
    assert set(list_targets()) >= EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_shipped_target_loads_and_has_its_profile(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    profile = load_profile(target.profile)
    assert profile.target == target.profile
    assert min(row.threads for row in profile.rows) <= target.threads


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_shipped_target_has_the_facts_for_inference(name: str) -> None:
    target = load_target(name)
    assert target.precision.reason
    assert target.thermal_note
    assert (target.cpu.boost_ghz or target.cpu.frequency_ghz) >= target.cpu.frequency_ghz
    assert target.cpu.isa != "armv8.0-a" or not (target.cpu.int8_dot_product or target.cpu.fp16_arithmetic)
    for runtime in target.runtimes.values():
        assert runtime.known_good or "not run by us" in runtime.note.lower()


def test_the_peak_rate_depends_on_cores_and_the_highest_clock() -> None:
    cpu = load_target("intel-n5105").cpu
    assert cpu.peak_gmacs(1) == pytest.approx(8 * 2.9)
    assert cpu.peak_gmacs(4) == cpu.peak_gmacs(64) == pytest.approx(4 * 8 * 2.9)
    assert load_target("apple-m").cpu.peak_gmacs(1) == pytest.approx(16 * 3.2)


def test_a_profile_beside_the_target_file_is_used(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "mine"\nextends = "raspberrypi4"\nprofile = "mine.json"\n')
    assert load_target(path).profile == "mine.json"
    (tmp_path / "mine.json").write_text("{}")
    assert load_target(path).profile == str(tmp_path / "mine.json")


def test_raspberrypi_is_raspberrypi5_under_another_name() -> None:
    alias, base = load_target("raspberrypi"), load_target("raspberrypi5")
    assert alias.extends == "raspberrypi5"
    changed = {"name", "title", "extends"}
    assert alias.model_dump(exclude=changed) == base.model_dump(exclude=changed)


@pytest.mark.parametrize("name", ["raspberrypi4", "raspberrypi3", "raspberrypi-zero2w"])
def test_armv80_boards_exclude_the_runtime_that_crashes_on_them(name: str) -> None:
    target = load_target(name)
    assert target.cpu.isa == "armv8.0-a"
    assert not target.cpu.int8_dot_product
    assert "1.21.0" in target.runtimes["onnxruntime"].excluded


def test_an_unknown_name_shows_near_matches() -> None:
    with pytest.raises(UnknownName, match=r"'rasberrypi4'. Did you mean raspberrypi4"):
        load_target("rasberrypi4")


def write(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_a_target_file_can_extend_a_shipped_target(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "mine"\nextends = "raspberrypi4"\n[cpu]\nfrequency_ghz = 1.5\n')
    target = load_target(path)
    assert target.cpu.frequency_ghz == 1.5
    assert target.cpu.cores == load_target("raspberrypi4").cpu.cores
    assert target.profile == "raspberrypi4"


def test_a_target_file_can_extend_a_file_beside_it(tmp_path: Path) -> None:
    write(tmp_path, 'name = "base"\nextends = "x86-avx2"\nmemory_mb = 777\n', "base")
    path = write(tmp_path, 'name = "mine"\nextends = "base.toml"\n')
    assert load_target(str(path)).memory_mb == 777


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name = ", "is not TOML"),
        ('extends = "mine.toml"', "extends is circular"),
        ("extends = 3", "extends must be the name of a target"),
        ('extends = "raspberrypi4"\nnmae = "x"', "unknown key nmae. Did you mean name"),
        ('extends = "raspberrypi4"\n[cpu]\ncores = 0', "cpu.cores: Input should be greater than"),
        ('extends = "raspberrypi4"\n[cpu]\nisa = "arm"', "cpu.isa: unknown value 'arm'. Did you mean"),
        ('extends = "raspberrypi4"\n[cpu]\ncores = 2', "threads is 4, but the CPU has 2 cores"),
        ('extends = "raspberrypi4"\n[limits]\nmax_latency_ms = -1', "limits.max_latency_ms"),
        ('extends = "raspberrypi4"\n[limits]\nmax_latency_ms = inf', "limits.max_latency_ms"),
        ('extends = "raspberrypi4"\n[sources]\ncpu = ""', "sources must name the source of: cpu"),
        ('extends = "raspberrypi4"\n[runtimes.onnxruntime]\npin = "1.21.0"', "one of the excluded versions"),
        ('name = "mine"', "is missing"),
    ],
)
def test_error_names_the_target_file_and_the_key(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_target(write(tmp_path, text))
    message = str(caught.value)
    assert "mine.toml" in message
    assert expected in message
    assert "\n" not in message.strip()


def test_error_names_a_missing_target_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no such target file: .*gone\.toml"):
        load_target(tmp_path / "gone.toml")


def test_an_extended_unknown_target_shows_near_matches(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="raspberrypi4"):
        load_target(write(tmp_path, 'extends = "raspberypi4"'))


@given(st.text(max_size=200))
def test_any_text_loads_or_is_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "mine.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises((SpecError, UnknownName)) as caught:
        load_target(path)
    assert caught.value.exit_code == 2


@given(st.data())
def test_any_value_in_any_place_loads_or_is_refused(data: st.DataObject) -> None:
    raw = tomllib.loads(shipped_files("targets")["raspberrypi4"].read_text(encoding="utf-8"))
    table = data.draw(st.sampled_from([raw, *(value for value in raw.values() if isinstance(value, dict))]))
    key = data.draw(st.sampled_from(sorted(table)))
    table[key] = data.draw(st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.just([])))
    try:
        target = TargetSpec.model_validate(raw)
    except ValueError:
        return
    assert target.cpu.cores >= target.threads >= 1
    assert target.memory_mb >= 16


WITH_AMX = {"cpu": {"amx": True}}


@pytest.mark.parametrize(
    ("changes", "precisions", "dynamic_batch", "refused"),
    [
        (WITH_AMX, ("fp32", "int8"), True, True),
        (WITH_AMX, ("fp32", "int8"), False, False),
        (WITH_AMX, ("fp32", "fp16"), True, False),
        ({}, ("fp32", "int8"), True, False),
        (WITH_AMX | {"runtimes": {"openvino": None}}, ("fp32", "int8"), True, False),
    ],
)
def test_int8_with_a_dynamic_batch_is_refused_for_openvino_on_amx(changes, precisions, dynamic_batch, refused) -> None:
    document = load_target("x86-avx512").model_dump(exclude_none=True)
    document["cpu"] |= changes.get("cpu", {})
    for runtime in changes.get("runtimes", {}):
        del document["runtimes"][runtime]
    target = TargetSpec.model_validate(document)
    if refused:
        with pytest.raises(UsageError, match=r"crashes on int8 .*AMX.*Leave out --dynamic-batch"):
            refuse_amx_dynamic_int8(target, precisions, dynamic_batch)
    else:
        refuse_amx_dynamic_int8(target, precisions, dynamic_batch)

"""A whole measurement: resumed, refused on another machine, and without graphs that fail."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tcs_edge.profiling.device import session
from tcs_edge.profiling.device.graphs import Key, UnusableRuntime, open_graph
from tcs_edge.profiling.device.memory import CannotRun, added_memory_mb
from tcs_edge.profiling.device.results import profile_document
from tcs_edge.profiling.device.rounds import Plan, State
from tcs_edge.profiling.device.session import STATE_FILE, OtherMeasurement, measure
from tcs_edge.runtimes.openvino.library import core
from tcs_edge.specs.profile import Profile

LENIENT = Plan(rounds=3, seconds=0.01, max_spread=1e9, retries=0)
KEYS = [Key("tiny", 32, runtime, 1) for runtime in ("onnxruntime", "openvino")]


def through(items: Iterable[Any], description: str, total: int) -> Iterator[Any]:
    yield from items


def run(onnx_path: Path, work: Path, keys: list[Key] = KEYS, plan: Plan = LENIENT, track: Any = through) -> State:
    return measure(keys, lambda key: onnx_path, plan, work, lambda text: None, track)


@pytest.fixture(scope="module")
def measured(onnx_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[State, Path]:
    work = tmp_path_factory.mktemp("work")
    return run(onnx_path, work), work


def test_both_runtimes_are_measured_with_their_memory(measured: tuple[State, Path]) -> None:
    state, _ = measured
    assert all(len(state.rounds(key)) == 3 for key in KEYS)
    assert all(ms > 0 for key in KEYS for samples in state.rounds(key) for ms in samples)
    assert all(1 < state.peak_memory_mb[str(key)] < 500 for key in KEYS)


def test_the_document_is_a_valid_profile(measured: tuple[State, Path]) -> None:
    state, _ = measured
    machine = {"cpu": "a cpu", "onnxruntime": "1.2.3", "openvino": "4.5.6"}
    profile = Profile.model_validate(profile_document("t", KEYS, state, LENIENT, machine, "2026-02-03"))
    assert [row.runtime_version for row in profile.rows] == ["1.2.3", "4.5.6"]
    assert all(row.source == "measured" and str(row.measured_on) == "2026-02-03" for row in profile.rows)
    (citation,) = profile.citations.values()
    assert citation.startswith("a cpu, 2026-02-03, onnxruntime 1.2.3, openvino 4.5.6: random weights, batch 1, 3 ")


def test_finished_measurements_are_not_repeated(
    measured: tuple[State, Path], onnx_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, work = measured
    monkeypatch.setattr(session, "open_graph", lambda path, key: pytest.fail("measured twice"))
    monkeypatch.setattr(session, "added_memory_mb", lambda path, key: pytest.fail("measured twice"))
    assert run(onnx_path, work) == state


def test_an_interruption_keeps_all_samples(onnx_path: Path, tmp_path: Path) -> None:
    def interrupt_measuring(items: Iterable[Any], description: str, total: int) -> Iterator[Any]:
        for number, item in enumerate(items):
            if description == "measuring" and number == 2:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        run(onnx_path, tmp_path, track=interrupt_measuring)
    saved = json.loads((tmp_path / STATE_FILE).read_text())["state"]
    assert sum(map(len, saved["samples"].values())) >= 2
    again = run(onnx_path, tmp_path)
    for name, samples in saved["samples"].items():
        assert again.samples[name][: len(samples)] == samples


def test_another_plan_or_machine_is_refused(
    measured: tuple[State, Path], onnx_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, work = measured
    with pytest.raises(OtherMeasurement, match="has a measurement with another plan"):
        run(onnx_path, work, plan=Plan(rounds=4))
    monkeypatch.setattr(session, "describe_machine", lambda runtimes: {"cpu": "another"})
    with pytest.raises(OtherMeasurement, match="has a measurement with another machine"):
        run(onnx_path, work)


def test_a_new_start_measures_noisy_latencies_again(onnx_path: Path, tmp_path: Path) -> None:
    strict = Plan(rounds=3, seconds=0.01, max_spread=1e-12, retries=0)
    first = run(onnx_path, tmp_path, KEYS[:1], strict)
    second = run(onnx_path, tmp_path, KEYS[:1], strict)
    assert first.rounds(KEYS[0]) != second.rounds(KEYS[0])


def test_a_graph_that_fails_is_left_out_with_its_reason(onnx_path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(onnx_path.read_bytes()[:1000])
    bad = Key("broken", 32, "onnxruntime", 1)
    keys = [KEYS[0], bad]
    state = measure(
        keys, lambda key: broken if key == bad else onnx_path, LENIENT, tmp_path / "work", lambda text: None, through
    )
    assert list(state.failed) == [str(bad)]
    document = profile_document("t", keys, state, LENIENT, {"cpu": "c", "onnxruntime": "1"}, "2026-02-03")
    assert [row["model"] for row in document["rows"]] == ["tiny"]
    assert document["notes"][0].startswith("not recorded: broken 32 px onnxruntime 1 thread fp32: ")


def test_onnxruntime_refuses_float16(onnx_path: Path) -> None:
    with pytest.raises(CannotRun, match="no float16 arithmetic on CPUs"):
        added_memory_mb(onnx_path, Key("tiny", 32, "onnxruntime", 1, "fp16"))


def test_openvino_refuses_float16_without_float16_arithmetic(onnx_path: Path) -> None:
    if "FP16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor computes in float16")
    with pytest.raises(UnusableRuntime, match=r"openvino computes in (f32|bf16) on this CPU instead of f16"):
        open_graph(onnx_path, Key("tiny", 32, "openvino", 1, "fp16"))

"""Merge of profiles: the winning row of two, and the warnings."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tcs_edge.errors import SpecError, UsageError
from tcs_edge.profiling.merge import merge_profiles, read_results
from tcs_edge.specs.profile import LatencyRow, Profile

Make = Callable[..., Profile]


def only(profile: Profile) -> LatencyRow:
    (row,) = profile.rows
    return row


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_measured_wins_over_published_over_estimated_in_any_order(
    order: Any, make_profile: Make, recorder: Any
) -> None:
    offers = [make_profile(ms, source) for ms, source in ((1.0, "estimated"), (2.0, "published"), (3.0, "measured"))]
    assert only(merge_profiles([offers[index] for index in order], "abc")).p50_ms == 3.0
    without = [offers[index] for index in order if index != 2]
    assert only(merge_profiles(without, "ab")).p50_ms == 2.0


def test_the_newer_measurement_wins_in_any_order_with_a_warning(make_profile: Make, recorder: Any) -> None:
    old, new = make_profile(10.0, day=1), make_profile(20.0, day=2)
    assert only(merge_profiles([new, old], ["new.json", "old.json"])).p50_ms == 20.0
    assert only(merge_profiles([old, new], ["old.json", "new.json"])).p50_ms == 20.0
    assert recorder.warned[1] == (
        "lcnet_050 224 px onnxruntime 4 threads fp32: old.json 10 ms (9.09 to 11, measured 2026-01-01) and "
        "new.json 20 ms (18.2 to 22, measured 2026-01-02) disagree. new.json wins: it is newer"
    )


def test_without_dates_the_file_named_last_wins(make_profile: Make, recorder: Any) -> None:
    merged = merge_profiles([make_profile(10.0), make_profile(20.0)], ["a", "b"])
    assert only(merged).p50_ms == 20.0
    assert recorder.warned[0].endswith("b wins: it is named last")


def test_overlapping_intervals_cause_no_warning(make_profile: Make, recorder: Any) -> None:
    merged = merge_profiles([make_profile(10.0, day=1), make_profile(11.0, day=2)], ["a", "b"])
    assert only(merged).p50_ms == 11.0
    assert recorder.warned == []


def test_a_measurement_outside_the_estimated_interval_causes_a_warning(make_profile: Make, recorder: Any) -> None:
    merge_profiles([make_profile(10.0, "estimated", band=1.5), make_profile(20.0, day=1)], ["a", "b"])
    assert recorder.warned[0].endswith("b wins: measured over estimated")


def test_rows_of_other_latencies_are_kept(make_profile: Make, recorder: Any) -> None:
    merged = merge_profiles([make_profile(10.0), make_profile(3.0, img_size=96)], ["a", "b"])
    assert [(row.img_size, row.p50_ms) for row in merged.rows] == [(224, 10.0), (96, 3.0)]


def test_every_row_keeps_its_citation(make_profile: Make, recorder: Any) -> None:
    profiles = [make_profile(float(size), img_size=size, citation=f"text {size % 3}") for size in (64, 65, 66, 67)]
    merged = merge_profiles(profiles, "abcd")
    assert {row.img_size: merged.citations[row.citation] for row in merged.rows} == {
        64: "text 1", 65: "text 2", 66: "text 0", 67: "text 1",
    }  # fmt: skip
    assert len(merged.citations) == 3


def test_every_measured_row_keeps_its_runtime_version(make_profile: Make, recorder: Any) -> None:
    old = make_profile(10.0, machine={"onnxruntime": "1.20.0"})
    new = make_profile(3.0, img_size=96, machine={"onnxruntime": "1.31.1"})
    merged = merge_profiles([old, new], ["a", "b"])
    assert [row.runtime_version for row in merged.rows] == ["1.20.0", "1.31.1"]


def test_profiles_of_different_devices_are_refused(make_profile: Make, recorder: Any) -> None:
    with pytest.raises(UsageError, match=r"raspberrypi4 in a\.json, raspberrypi5 in b\.json"):
        merge_profiles([make_profile(1.0), make_profile(1.0, target="raspberrypi5")], ["a.json", "b.json"])


SELFCHECK = {
    "model": "lcnet_050", "img_size": 96, "batch": 1, "runtime": "onnxruntime", "runtime_version": "1.22.0",
    "threads": 4, "precision": "fp32", "p50_ms": 5.0, "p90_ms": 6.0, "p99_ms": 7.0, "process_peak_memory_mb": 20.0,
    "arithmetic": "f32", "runs": 100,
}  # fmt: skip


def selfcheck(folder: Path, verdict: str = "pass", **changes: Any) -> str:
    path = folder / "selfcheck.json"
    row = {name: value for name, value in (SELFCHECK | changes).items() if value is not None}
    document = {"schema_version": 1, "verdict": verdict, "measured": "2026-01-05T06:07:08+00:00", "rows": [row]}
    path.write_text(json.dumps(document))
    return str(path)


def test_a_self_check_is_read(tmp_path: Path) -> None:
    row = only(read_results(selfcheck(tmp_path), "raspberrypi4"))
    assert (row.low_ms, row.p50_ms, row.high_ms, row.source) == (5.0, 5.0, 6.0, "measured")
    assert (row.runtime_version, str(row.measured_on)) == ("1.22.0", "2026-01-05")
    assert row.peak_memory_mb is None  # that of the whole process, not of the model


def test_the_interval_of_a_self_check_is_kept(tmp_path: Path) -> None:
    row = only(read_results(selfcheck(tmp_path, low_ms=4.5, high_ms=5.5), "raspberrypi4"))
    assert (row.low_ms, row.high_ms) == (4.5, 5.5)


def test_a_failed_self_check_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the self-check failed"):
        read_results(selfcheck(tmp_path, verdict="fail"), "raspberrypi4")


@pytest.mark.parametrize("version", [2, "1", None])
def test_a_self_check_of_another_version_is_refused(tmp_path: Path, version: object) -> None:
    path = Path(selfcheck(tmp_path))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": version}))
    with pytest.raises(SpecError, match=r"schema_version is .*, this version reads 1"):
        read_results(str(path), "raspberrypi4")


def test_a_self_check_without_target_needs_the_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Pass --target"):
        read_results(selfcheck(tmp_path), None)


@pytest.mark.parametrize("changes", [{"p50_ms": None}, {"p50_ms": -1.0}, {"threads": 0}, {"p50_ms": "5 ms"}])
def test_a_self_check_with_a_missing_or_invalid_number_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"selfcheck\.json: rows\.0"):
        read_results(selfcheck(tmp_path, **changes), "raspberrypi4")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": 3}', '{"rows": [3]}'])
def test_other_documents_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(SpecError):
        read_results(str(path), "raspberrypi4")


def test_a_profile_without_citations_is_not_taken_for_a_self_check(make_profile: Make, tmp_path: Path) -> None:
    document = make_profile(10.0, "published", runtime="ncnn", machine={"system": "Linux aarch64"}).model_dump(
        mode="json"
    )
    del document["citations"]
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    with pytest.raises(SpecError, match="citations that are missing"):
        read_results(str(path), "raspberrypi4")

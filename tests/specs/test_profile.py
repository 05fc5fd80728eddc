from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.errors import SpecError, UnknownName
from tcs_edge.specs.locate import shipped_files
from tcs_edge.specs.profile import LatencyRow, Profile, load_profile, save_profile

PROFILES = sorted(shipped_files("profiles"))
ROW: dict[str, Any] = {
    "model": "lcnet_050",
    "img_size": 224,
    "runtime": "onnxruntime",
    "threads": 1,
    "precision": "fp32",
    "p50_ms": 2.0,
    "low_ms": 1.5,
    "high_ms": 3.0,
    "source": "measured",
    "citation": "here",
}


def document(**changes: Any) -> dict[str, Any]:
    return {"schema_version": 1, "target": "t", "citations": {"here": "us"}, "rows": [ROW]} | changes


@pytest.mark.parametrize("name", PROFILES)
def test_every_shipped_profile_loads(name: str) -> None:
    profile = load_profile(name)
    assert profile.target == name
    assert {row.img_size for row in profile.rows} >= {224}


@pytest.mark.parametrize("name", PROFILES)
def test_only_one_shipped_profile_is_measured(name: str) -> None:
    sources = {row.source for row in load_profile(name).rows}
    assert (sources == {"measured"}) == (name == "x86-avx512")
    if name != "x86-avx512":
        assert "measured" not in sources


@pytest.mark.parametrize("name", PROFILES)
def test_shipped_profiles_contain_no_local_paths(name: str) -> None:
    text = json.dumps(load_profile(name).model_dump(exclude={"rows"}))
    assert not any(word in text for word in ("/work", "/home", "/tmp", "/root", "/opt"))


def test_a_profile_round_trips_through_its_file(tmp_path: Path) -> None:
    profile = Profile.model_validate(document())
    save_profile(profile, tmp_path / "mine.json")
    assert load_profile(tmp_path / "mine.json") == profile


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rows": [ROW | {"p50_ms": 0.0}]}, "rows.0.p50_ms"),
        ({"rows": [ROW | {"low_ms": 1e-300}]}, "rows.0.low_ms"),
        ({"rows": [ROW | {"high_ms": 1e300}]}, "rows.0.high_ms"),
        ({"rows": [ROW | {"p99_ms": 3.7e6}]}, "rows.0.p99_ms"),
        ({"rows": [ROW | {"peak_memory_mb": 1e300}]}, "rows.0.peak_memory_mb"),
        ({"rows": [ROW | {"low_ms": 2.5}]}, "low_ms <= p50_ms <= high_ms does not hold"),
        ({"rows": [ROW | {"high_ms": 1.9}]}, "low_ms <= p50_ms <= high_ms does not hold"),
        ({"rows": [ROW | {"p90_ms": 1.0}]}, "p50_ms <= p90_ms <= p99_ms does not hold"),
        ({"rows": [ROW | {"p99_ms": 2.5, "p90_ms": 2.7}]}, "p50_ms <= p90_ms <= p99_ms does not hold"),
        ({"rows": [ROW | {"citation": "nowhere"}]}, "rows have citations that are missing in `citations`: nowhere"),
        ({"rows": [ROW | {"source": "guessed"}]}, "rows.0.source"),
        ({"rows": [ROW, ROW]}, "two rows for"),
        ({"rows": []}, "rows"),
        ({"schema_version": 2}, "schema_version"),
        ({"extra": 1}, "unknown key extra"),
    ],
)
def test_an_implausible_profile_is_refused(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(document(**changes)))
    with pytest.raises(SpecError) as caught:
        load_profile(path)
    assert "mine.json" in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"rows": NaN}', "\ud800".encode("utf-8", "surrogatepass")])
def test_content_that_is_not_a_profile_is_refused(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError, match=r"mine\.json"):
        load_profile(path)


def test_an_unknown_profile_shows_near_matches() -> None:
    with pytest.raises(UnknownName, match="raspberrypi4"):
        load_profile("raspberypi4")


@given(*(st.floats(allow_nan=True) | st.floats(1e-5, 4e6) for _ in range(3)))
def test_a_row_is_accepted_if_its_interval_is_plausible_and_ordered(low: float, p50: float, high: float) -> None:
    plausible = 1e-4 <= low <= p50 <= high <= 3.6e6
    try:
        LatencyRow.model_validate(ROW | {"low_ms": low, "p50_ms": p50, "high_ms": high})
    except ValueError:
        assert not plausible
    else:
        assert plausible

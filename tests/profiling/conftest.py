from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from tcs_edge.specs.profile import LatencyRow, Profile


@pytest.fixture
def make_profile() -> Callable[..., Profile]:
    """make_profile(10.0, source="measured", day=3): return a profile of raspberrypi4 with one row."""

    def make(
        p50_ms: float,
        source: str = "measured",
        day: int | None = None,
        band: float = 1.1,
        target: str = "raspberrypi4",
        machine: dict[str, str] | None = None,
        citation: str = "us",
        **changes: Any,
    ) -> Profile:
        row: dict[str, Any] = {
            "model": "lcnet_050", "img_size": 224, "runtime": "onnxruntime", "threads": 4, "precision": "fp32",
            "p50_ms": p50_ms, "low_ms": p50_ms / band, "high_ms": p50_ms * band, "source": source, "citation": "us",
        }  # fmt: skip
        if day is not None:
            row["measured_on"] = date(2026, 1, day)
        rows = (LatencyRow.model_validate(row | changes),)
        return Profile(target=target, machine=machine or {}, citations={"us": citation}, rows=rows)

    return make

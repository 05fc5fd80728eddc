from __future__ import annotations

from collections.abc import Callable

import pytest

from tcs_edge.specs.profile import LatencyRow, Profile, Source
from tcs_edge.specs.target import TargetSpec, load_target


@pytest.fixture
def target() -> TargetSpec:
    """Raspberry Pi 4, with four threads by default."""
    return load_target("raspberrypi4")


@pytest.fixture
def make_row() -> Callable[..., LatencyRow]:
    def make(
        model: str,
        p50_ms: float,
        high_ms: float | None = None,
        img_size: int = 96,
        threads: int = 4,
        source: Source = "measured",
    ) -> LatencyRow:
        return LatencyRow(
            model=model,
            img_size=img_size,
            runtime="onnxruntime",
            threads=threads,
            precision="fp32",
            p50_ms=p50_ms,
            low_ms=p50_ms / 1.1,
            high_ms=high_ms or p50_ms * 1.1,
            source=source,
            citation="test",
        )

    return make


@pytest.fixture
def make_profile() -> Callable[..., Profile]:
    def make(*rows: LatencyRow) -> Profile:
        return Profile(target="raspberrypi4", citations={"test": "made up"}, rows=rows)

    return make

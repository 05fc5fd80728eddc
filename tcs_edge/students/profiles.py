"""Looks up the latency of a student in a profile, between the profile's image sizes too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from tcs_edge.errors import UsageError
from tcs_edge.specs.profile import LatencyRow, Profile, ProfileRuntime, Source
from tcs_edge.specs.target import Precision

# Sizes left out of the measured curves (rows 64 px apart) came out within 1.12 for 19 of 20 points.
INTERPOLATION_FACTOR = 1.15


@dataclass(frozen=True)
class Latency:
    """The latency of one image in ms: median and the band it is believed to lie in.

    `threads` is the thread count the figure is for; `source` says how it is known, `citation` from where.
    """

    p50_ms: float
    low_ms: float
    high_ms: float
    threads: int
    source: Source
    citation: str

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.p50_ms:.3g} ms (up to {self.high_ms:.3g} ms, {self.source})"


def latency(
    profile: Profile,
    model: str,
    img_size: int,
    threads: int,
    runtime: ProfileRuntime = "onnxruntime",
    precision: Precision = "fp32",
) -> Latency:
    """Latency of `model` for one img_size x img_size image.

    A size between two rows is interpolated on log-log axes and its band widened. A thread count without
    rows falls back to the next lower one, which is slower and thus on the safe side.

    Raises:
        UsageError: the profile does not know the model, or no size or thread count near the one asked for.
    """
    rows = [
        row
        for row in profile.rows
        if (row.model, row.runtime, row.precision, row.batch) == (model, runtime, precision, 1)
    ]
    if not rows:
        raise UsageError(
            f"the profile of {profile.target} does not know {model} ({runtime}, {precision}). "
            "Measure it (`tcs-edge profile` there, or `tcs-edge bundle-profiler`), or choose another --student."
        )
    rows = _with_threads(rows, threads, profile.target)
    return _at_size(rows, img_size, profile)


def _with_threads(rows: Sequence[LatencyRow], threads: int, target: str) -> list[LatencyRow]:
    known = sorted({row.threads for row in rows})
    usable = [count for count in known if count <= threads]
    if not usable:
        raise UsageError(
            f"the profile of {target} has no row of {rows[0].model} with {threads} threads or fewer. "
            f"Known: {', '.join(map(str, known))}."
        )
    return sorted((row for row in rows if row.threads == usable[-1]), key=lambda row: row.img_size)


def _at_size(rows: Sequence[LatencyRow], img_size: int, profile: Profile) -> Latency:
    """The row of this size, or an interpolation between its neighbours; `rows` are sorted by size."""
    for row in rows:
        if row.img_size == img_size:
            citation = profile.citations[row.citation]
            return Latency(row.p50_ms, row.low_ms, row.high_ms, row.threads, row.source, citation)
    below = [row for row in rows if row.img_size < img_size]
    above = [row for row in rows if row.img_size > img_size]
    if not below or not above:
        _refuse_size(rows, img_size, profile.target)
    return _between(below[-1], above[0], img_size, profile)


def _refuse_size(rows: Sequence[LatencyRow], img_size: int, target: str) -> NoReturn:
    known = f"{rows[0].img_size} to {rows[-1].img_size}" if len(rows) > 1 else f"{rows[0].img_size}"
    raise UsageError(
        f"the profile of {target} knows {rows[0].model} at {known} px, not at {img_size} px. "
        "Choose an --img-size in between."
    )


def _between(small: LatencyRow, large: LatencyRow, img_size: int, profile: Profile) -> Latency:
    share = math.log(img_size / small.img_size) / math.log(large.img_size / small.img_size)

    def blend(a: float, b: float) -> float:
        return math.exp((1 - share) * math.log(a) + share * math.log(b))

    return Latency(
        blend(small.p50_ms, large.p50_ms),
        blend(small.low_ms, large.low_ms) / INTERPOLATION_FACTOR,
        blend(small.high_ms, large.high_ms) * INTERPOLATION_FACTOR,
        small.threads,
        "estimated",
        f"interpolated between {small.img_size} and {large.img_size} px; {profile.citations[small.citation]}",
    )

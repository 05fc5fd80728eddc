"""Typical image size of a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tcs_edge.data.decode import image_size
from tcs_edge.data.images import Split

LOOKED_AT = 500


def typical_side(split: Split) -> int:
    """Median shorter side in pixels, over at most `LOOKED_AT` evenly spaced images."""
    rows = np.unique(np.linspace(0, len(split) - 1, LOOKED_AT).astype(int))
    return int(np.median([_shorter_side(split.sources[row]) for row in rows]))


def _shorter_side(source: Path | np.ndarray) -> int:
    return min(image_size(source)) if isinstance(source, Path) else min(source.shape[:2])

"""Typical image size of a split."""

from __future__ import annotations

import numpy as np

from tcs_edge.data.images import Split

LOOKED_AT = 500


def typical_side(split: Split) -> int:
    """Median shorter side in pixels, over at most `LOOKED_AT` evenly spaced images."""
    rows = np.unique(np.linspace(0, len(split) - 1, LOOKED_AT).astype(int))
    return int(np.median([min(split.size(int(row))) for row in rows]))

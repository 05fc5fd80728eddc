"""Ranges of the numbers in a run's documents.

The upper bounds are far above any real run. They refuse numbers of a changed or damaged file.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated

from pydantic import Field

from tcs_edge.specs.strict import Spec

Count = Annotated[int, Field(ge=0, le=10**15, strict=True)]
Positive = Annotated[int, Field(ge=1, le=10**15, strict=True)]
Amount = Annotated[float, Field(ge=0, le=1e12, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Milliseconds = Annotated[float, Field(gt=0, le=1e9, strict=True)]
Threads = Annotated[int, Field(ge=1, le=100_000, strict=True)]
Difference = Annotated[float, Field(ge=0, strict=True)]
ROUNDING = 1e-9
Z_95 = 1.959963984540054  # of a normal distribution, two-sided


def require_share(record: Spec, count: int, total: int, value: float, counted: str) -> None:
    """Raise ValueError unless `value` is the share of `count` in `total`, and low..high its Wilson interval.

    Args:
        counted: what `count` images are, for the message.
    """
    require_order(record, "low", "value", "high")
    if abs(value - count / total) > ROUNDING:
        raise ValueError(f"value is {value}, but {count} of {total} images {counted}")
    require_interval(count, total, *(getattr(record, name) for name in ("low", "high")))


def require_interval(count: int, total: int, low: float, high: float) -> None:
    """Raise ValueError unless low..high is the 95 % interval of a share (Wilson 1927).

    The formula is here because scipy takes half a second to import.
    """
    share, z2 = count / total, Z_95**2 / total
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
    if abs(low - middle + half) > ROUNDING or abs(high - middle - half) > ROUNDING:
        interval = f"{middle - half:.6g} to {middle + half:.6g}"
        raise ValueError(f"the interval is {low} to {high}, but {count} of {total} images give {interval}")


def require_order(record: Spec, *names: str) -> None:
    """Raise ValueError unless the fields `names` of `record` are in ascending order, up to rounding."""
    values = [getattr(record, name) for name in names]
    if any(second < first - ROUNDING for first, second in itertools.pairwise(values)):
        raise ValueError(f"{' <= '.join(names)} does not hold ({', '.join(f'{value:.6g}' for value in values)})")

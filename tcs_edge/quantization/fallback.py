"""Layers go back to float, the most_sensitive first, until the accuracy holds or the budget is used up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tcs_edge.quantization.sensitivity import LayerCost, most_sensitive

HALF = 0.5  # of the expected noise is left after each round


@dataclass(frozen=True)
class Round:
    """One try, and what the proof's own checks say of it on the validation images.

    Attributes:
        float_layers: the layers that computed in float, most_sensitive first.
        accuracy, drop, drop_high: share right; lost against the float32 model; 95 % bound of that loss.
        sqnr_db: signal to noise of the logits.
        failures: the checks that did not pass, in words.
    """

    float_layers: tuple[str, ...]
    accuracy: float
    drop: float
    drop_high: float
    sqnr_db: float
    failures: tuple[str, ...]

    @property
    def held(self) -> bool:
        """Whether every check passed."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self) | {"sqnr_db": self.sqnr_db if math.isfinite(self.sqnr_db) else None, "held": self.held}


Try = Callable[[tuple[str, ...]], Round]


def hold_accuracy(attempt: Try, costs: Sequence[LayerCost], rounds: int) -> tuple[Round, ...]:
    """Every round that was made; the last one held, or nothing did.

    The first round has every layer in int8. Each further one takes as many layers back to float, most_sensitive
    first, as halve the noise that is left, so a few rounds reach far. At least one layer stays in int8:
    without any there is nothing to release.

    Args:
        attempt: makes the model with these layers in float and measures it.
        costs: every int8 layer, most_sensitive first.
        rounds: at most this many after the first.
    """
    made = [attempt(())]
    count, noise = 0, sum(cost.noise for cost in costs)
    while not made[-1].held and len(made) <= rounds and count < len(costs) - 1:
        noise *= HALF
        count = min(max(most_sensitive(costs, noise), count + 1), len(costs) - 1)
        made.append(attempt(tuple(cost.name for cost in costs[:count])))
    return tuple(made)

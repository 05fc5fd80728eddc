"""Return layers to float, the most sensitive first, until int8 holds the accuracy or the rounds are used up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tcs_edge.quantization.sensitivity import LayerCost, most_sensitive

HALF = 0.5  # fraction of the expected noise that remains after each round


@dataclass(frozen=True)
class Round:
    """One round of the fallback, with the results of the validation's checks on the validation images.

    Attributes:
        float_layers: layers that computed in float, most sensitive first.
        accuracy, drop, drop_high: accuracy; loss against the float32 model; 95 % bound of that loss; all in 0..1.
        sqnr_db: signal-to-noise ratio of the logits in dB.
        failures: names of the failed checks.
        max_accuracy_drop: accuracy that int8 may lose, in 0..1.
    """

    float_layers: tuple[str, ...]
    accuracy: float
    drop: float
    drop_high: float
    sqnr_db: float
    failures: tuple[str, ...]
    max_accuracy_drop: float

    @property
    def passed(self) -> bool:
        """True if every check passed: the images show no loss above the limit, but perhaps too few to exclude one."""
        return not self.failures

    @property
    def held(self) -> bool:
        """True if every check passed and the bound of the loss is within the limit."""
        return self.passed and self.drop_high <= self.max_accuracy_drop

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return asdict(self) | {"sqnr_db": self.sqnr_db if math.isfinite(self.sqnr_db) else None, "held": self.held}


Try = Callable[[tuple[str, ...]], Round]


def hold_accuracy(
    attempt: Try, costs: Sequence[LayerCost], rounds: int, enough: Callable[[Round], bool] = lambda made: made.held
) -> tuple[Round, ...]:
    """Run rounds until one is good enough; return all of them, that one last.

    The first round has every layer in int8. Each further round returns the most sensitive layers to float,
    enough to halve the remaining noise. At least one layer stays in int8.

    Args:
        attempt: makes the model with these layers in float and checks it.
        costs: every int8 layer, most sensitive first.
        rounds: largest number of rounds after the first.
        enough: True for a round that ends the search.
    """
    made = [attempt(())]
    count, noise = 0, sum(cost.noise for cost in costs)
    while not enough(made[-1]) and len(made) <= rounds and count < len(costs) - 1:
        noise *= HALF
        count = min(max(most_sensitive(costs, noise), count + 1), len(costs) - 1)
        made.append(attempt(tuple(cost.name for cost in costs[:count])))
    return tuple(made)

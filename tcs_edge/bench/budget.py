"""Training budget of a comparison, the same for every run: epochs, or images seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tcs_edge.errors import UsageError

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)(k|m)?-(epochs|images)")
_FACTORS = {None: 1, "k": 1_000, "m": 1_000_000}


@dataclass(frozen=True)
class BenchBudget:
    """Budget of every run, >= 1: passes over the training images, or training images seen.

    Use images for a fair comparison of runs with different numbers of images. An epoch over five times the images
    is five times the training.
    """

    count: int
    unit: Literal["epochs", "images"]

    def __str__(self) -> str:
        return f"{self.count:,} {'images seen' if self.unit == 'images' else self.unit}"

    def epochs(self, train_images: int) -> int:
        """Return the number of passes over `train_images` images, rounded.

        Raises:
            UsageError: the budget is less than one pass.
        """
        if self.unit == "epochs":
            return self.count
        if self.count < train_images:
            raise UsageError(
                f"--budget: {self} is less than one pass over {train_images:,} training images. "
                f"Pass {train_images}-images or more."
            )
        return round(self.count / train_images)


def parse_budget(text: str) -> BenchBudget:
    """Parse "30-epochs", "200k-images" or "1.5m-images".

    Raises:
        UsageError: any other format.
    """
    match = _BUDGET.fullmatch(text.strip().lower())
    count = float(match[1]) * _FACTORS[match[2]] if match else 0.0
    if not match or count < 1 or count != int(count):
        raise UsageError(f"--budget: unknown format {text!r}. Write 30-epochs, 200k-images or 1.5m-images.")
    return BenchBudget(int(count), "epochs" if match[3] == "epochs" else "images")

"""Define the checks of an exported model and their limits.

| precision | max_rel_diff | max_centered_diff | min_top1_agreement | hostile inputs | max_accuracy_drop |
|---|---|---|---|---|---|
| f32  | 1e-4 | 1e-3 | 0.99 | 1e-3   | 0.002 |
| f16  | 2e-2 | 0.14 | 0.97 | finite | 0.01  |
| f16-weights | 2e-2 | 0.045 | 0.98 | finite | 0.005 |
| pixels | 5e-2 | 0.14 | 0.97 | finite | 0.005 |
| bf16 | 1e-1 | 0.45 | 0.90 | finite | 0.02  |
| int8 | 1.0  | 1.4  | 0.92 | finite | `--max-accuracy-drop` |

int8 also needs a signal-to-noise ratio of 16 dB. docs/explanation/decisions/0002-parity-thresholds.md and
0004-int8.md describe the measurements.

`max_rel_diff` is the largest |difference| of a logit over the largest |logit| of the reference. If no
logit moves by more than d, the difference of two logits moves by at most 2 d. Rounding can therefore change
the class of an image only if the reference's margin is below twice the allowed difference. Any flip above
that margin is a fault.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tcs_edge.errors import UsageError
from tcs_edge.validation.accuracy import Accuracy, PairedAccuracy
from tcs_edge.validation.hostile import HUGE
from tcs_edge.validation.parity import Parity
from tcs_edge.validation.statistics import accuracy_drop, least_above_chance

# Checks of the model's quality; all others compare the exports with it.
BETTER_THAN_CHANCE = "model: better than chance"
LEAST_ACCURACY = "model: accuracy"
LEAST_RECALL, LEAST_F1, MOST_ECE = "model: recall of every class", "model: macro F1", "model: calibration error"
QUALITY = (BETTER_THAN_CHANCE, LEAST_ACCURACY, LEAST_RECALL, LEAST_F1, MOST_ECE)


@dataclass(frozen=True)
class Tolerance:
    """Limits for one precision.

    Attributes:
        max_rel_diff, max_centered_diff, min_top1_agreement: limits on fields of `Parity`.
        max_hostile_rel_diff: limit for black, white, noise and huge inputs; None requires finite logits only.
        max_accuracy_drop: non-inferiority margin: the accuracy that may be lost, in 0..1.
        alpha: McNemar's p-value below which an accuracy difference fails; None leaves the test out.
        min_sqnr_db: smallest signal-to-noise ratio over all logits in dB; None leaves the check out.
        huge: factor on noise for the input of huge values.
    """

    max_rel_diff: float
    max_centered_diff: float
    min_top1_agreement: float
    max_hostile_rel_diff: float | None
    max_accuracy_drop: float
    alpha: float | None = 0.01
    min_sqnr_db: float | None = None
    huge: float = HUGE


F32 = Tolerance(1e-4, 1e-3, 0.99, max_hostile_rel_diff=1e-3, max_accuracy_drop=0.002)
# float16 ends at 65504. Noise x 1000 exceeds that inside any network; noise x 10 is beyond any 8-bit image.
F16 = Tolerance(2e-2, 0.14, 0.97, max_hostile_rel_diff=None, max_accuracy_drop=0.01, huge=10.0)
BF16 = Tolerance(1e-1, 0.45, 0.9, max_hostile_rel_diff=None, max_accuracy_drop=0.02)
F16_WEIGHTS = Tolerance(2e-2, 0.045, 0.98, max_hostile_rel_diff=None, max_accuracy_drop=0.005)
INT8 = Tolerance(1.0, 1.4, 0.92, max_hostile_rel_diff=None, max_accuracy_drop=0.01, alpha=None, min_sqnr_db=16.0)
PIXELS = Tolerance(5e-2, 0.14, 0.97, max_hostile_rel_diff=None, max_accuracy_drop=0.005)
TOLERANCES = {"f32": F32, "pixels": PIXELS, "f16": F16, "f16-weights": F16_WEIGHTS, "bf16": BF16, "int8": INT8}


def tolerance_for(precision: str, max_int8_drop: float = INT8.max_accuracy_drop) -> Tolerance:
    """Return the limits for a runner's precision.

    Args:
        max_int8_drop: accuracy that int8 may lose, in 0..1.

    Raises:
        UsageError: a precision without limits.
    """
    if precision not in TOLERANCES:
        raise UsageError(f"no parity limits for precision {precision!r}. Known: {', '.join(TOLERANCES)}.")
    tolerance = TOLERANCES[precision]
    return replace(tolerance, max_accuracy_drop=max_int8_drop) if precision == "int8" else tolerance


@dataclass(frozen=True)
class Check:
    """One check: the measured `value` against its `limit`; both are None for a check without a number."""

    name: str
    value: float | None
    limit: float | None
    unit: str
    passed: bool
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values; numbers that are not finite become null."""
        document = asdict(self)
        for key in ("value", "limit"):
            number = document[key]
            document[key] = number if number is None or math.isfinite(number) else None
        return document


def at_most(name: str, value: float, limit: float, unit: str, detail: str = "") -> Check:
    """Return a check that passes if value <= limit; NaN fails."""
    return Check(name, value, limit, unit, value <= limit, detail)


def at_least(name: str, value: float, limit: float, unit: str, detail: str = "") -> Check:
    """Return a check that passes if value >= limit; NaN fails."""
    return Check(name, value, limit, unit, value >= limit, detail)


def holds(name: str, passed: bool, detail: str = "") -> Check:
    """Return a check without a number."""
    return Check(name, None, None, "", passed, detail)


def difference_checks(name: str, parity: Parity, tolerance: Tolerance) -> list[Check]:
    """Return the parity checks that hold for untrained models too, whose classes mean nothing."""
    if not parity.finite:
        return [holds(f"{name}: finite logits", False, "a logit is NaN or Inf, in the export or in the trained model")]
    return [
        holds(f"{name}: finite logits", True),
        at_most(f"{name}: largest difference", parity.max_rel_diff, tolerance.max_rel_diff, "of max |logit|"),
        at_most(f"{name}: centered logits", parity.max_centered_diff, tolerance.max_centered_diff, "of their norm"),
    ]


def parity_checks(name: str, parity: Parity, scale: float, tolerance: Tolerance) -> list[Check]:
    """Return the parity checks on real images; `scale` is the largest |logit| of the reference."""
    checks = difference_checks(name, parity, tolerance)
    if not parity.finite:
        return checks
    bound = 2 * tolerance.max_rel_diff * scale
    flips = f"{parity.flipped} images changed class"
    least = tolerance.min_sqnr_db
    return [
        *checks,
        *([] if least is None else [at_least(f"{name}: signal to noise", parity.sqnr_db, least, "dB")]),
        at_least(f"{name}: same class", parity.top1_agreement, tolerance.min_top1_agreement, "of images", flips),
        at_most(f"{name}: margin of changed classes", parity.worst_margin, bound, "logits", flips),
    ]


def embedding_checks(name: str, parity: Parity, tolerance: Tolerance) -> list[Check]:
    """Return the parity checks of embeddings on real images, with the limits of logits; they have no classes."""
    if not parity.finite:
        return [holds(f"{name}: finite embedding", False, "a value is NaN or Inf, in the export or the trained model")]
    least = tolerance.min_sqnr_db
    return [
        holds(f"{name}: finite embedding", True),
        at_most(f"{name}: embedding difference", parity.max_rel_diff, tolerance.max_rel_diff, "of max |value|"),
        at_most(f"{name}: centered embedding", parity.max_centered_diff, tolerance.max_centered_diff, "of their norm"),
        *([] if least is None else [at_least(f"{name}: embedding, signal to noise", parity.sqnr_db, least, "dB")]),
    ]


def accuracy_checks(name: str, paired: PairedAccuracy, images: int, tolerance: Tolerance) -> list[Check]:
    """Return the checks of an accuracy against the reference on the same images.

    The upper bound of the loss must stay within the margin plus an allowance. The allowance is the bound for
    a single lost image, the smallest loss that the images can show. Unless `alpha` is None, McNemar's exact
    test must not find a significant difference either.
    """
    counts = f"of {images} images, {paired.only_reference} became wrong and {paired.only_model} correct"
    sharpness = accuracy_drop(1, 0, images).high
    allowed = tolerance.max_accuracy_drop + sharpness
    margin = f"margin {tolerance.max_accuracy_drop:g} plus {sharpness:.2g} for one lost image"
    inferior = f"{name}: accuracy loss (95 % bound)"
    checks = [at_most(inferior, paired.drop_high, allowed, "", f"{margin}; {counts}")]
    if tolerance.alpha is not None:
        unchanged = f"{name}: accuracy unchanged (McNemar)"
        checks.append(at_least(unchanged, paired.p_value, tolerance.alpha, "p", counts))
    return checks


def chance_check(accuracy: Accuracy, chance: float) -> Check:
    """Return a check that an accuracy is significantly above `chance`, in 0..1; see `chance.chance_accuracy`."""
    least = least_above_chance(accuracy.total, chance) / accuracy.total
    detail = f"chance is {100 * chance:.1f} %, one-sided binomial test at 95 %. Train longer, or check the labels"
    return at_least(BETTER_THAN_CHANCE, accuracy.value, least, "of images", detail)


def least_accuracy_check(accuracy: Accuracy, least: float) -> Check:
    """Return a check that the lower end of the 95 % interval of an accuracy is at least `least`, in 0..1."""
    detail = f"lower end of the 95 % interval of {100 * accuracy.value:.1f} % on {accuracy.total} test images"
    return at_least(LEAST_ACCURACY, accuracy.low, least, "of images", detail)


def labels_check(name: str, stored: Sequence[str] | None, classes: Sequence[str]) -> Check:
    """Return a check that passes if the export has the trained class names in the same order."""
    if stored is None:
        return holds(f"{name}: class names", False, "the file has no class names")
    wrong = [i for i, pair in enumerate(zip(stored, classes, strict=False)) if pair[0] != pair[1]]
    if not wrong and len(stored) == len(classes):
        return holds(f"{name}: class names", True)
    first = wrong[0] if wrong else min(len(stored), len(classes))
    return holds(f"{name}: class names", False, f"the names differ from class {first} on")

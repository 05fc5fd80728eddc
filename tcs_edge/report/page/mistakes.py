"""The images worth a look: flips between the trained model and an export, and the most confident mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tcs_edge.report.page.contents import RunContents

SHOWN = 12


@dataclass(frozen=True)
class Mistake:
    """A test image with the class it should have got and the one it got.

    Attributes:
        should, got: positions in the classes.
        amount: how wrong it is, in words.
        thumbnail: a data URI; None where the image is not at hand.
    """

    name: str
    should: int
    got: int
    amount: str
    thumbnail: str | None


@dataclass(frozen=True)
class Flips:
    """The images whose class an exported model changed: how many, and the worst of them."""

    runtime: str
    count: int
    worst: tuple[Mistake, ...]


Picture = Callable[[str], str | None]


def flips(run: RunContents, picture: Picture) -> tuple[Flips, ...]:
    """Per exported runtime, the flips with the largest margin first."""
    return tuple(_flips_of(run, runtime, picture) for runtime in run.validation.parities)


def _flips_of(run: RunContents, runtime: str, picture: Picture) -> Flips:
    parity = run.validation.parities[runtime]
    worst = []
    for flip in sorted(parity.flips, key=lambda flip: -flip.margin)[:SHOWN]:
        name = flip.image or _name(run, flip.index)
        amount = f"margin {flip.margin:.3g}"
        worst.append(Mistake(name, flip.reference_class, flip.model_class, amount, picture(name)))
    return Flips(runtime, parity.changed, tuple(worst))


def _name(run: RunContents, index: int) -> str:
    names = run.predictions.names if run.predictions else ()
    return names[index] if index < len(names) else f"test image {index}"


def confident_mistakes(run: RunContents, picture: Picture) -> tuple[Mistake, ...]:
    """The wrong answers that the trained model was surest of."""
    if run.predictions is None:
        return ()
    columns = run.predictions
    rows = zip(columns.names, columns.labels, columns.predicted, columns.confidences, strict=True)
    wrong = [row for row in rows if row[2] is not None and row[3] is not None and row[1] != row[2]]
    wrong.sort(key=lambda row: (-(row[3] or 0.0), row[0]))
    return tuple(
        Mistake(name, label, predicted or 0, f"{100 * (confidence or 0.0):.1f} % sure", picture(name))
        for name, label, predicted, confidence in wrong[:SHOWN]
    )

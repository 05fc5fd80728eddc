"""Collect the flips between the trained model and an export, and the most confident mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tcs_edge.report.page.contents import RunContents
from tcs_edge.runs.documents import PredictionsRecord

SHOWN = 12


@dataclass(frozen=True)
class Mistake:
    """Test image with its expected and its actual class.

    Attributes:
        should, got: positions in the classes.
        amount: margin or confidence, as text.
        thumbnail: a data URI; None without the image.
    """

    name: str
    should: int
    got: int
    amount: str
    thumbnail: str | None


@dataclass(frozen=True)
class Flips:
    """Images with another class in an export: their number, and those with the largest margin."""

    runtime: str
    count: int
    worst: tuple[Mistake, ...]


Thumbnail = Callable[[str], str | None]


def flips(run: RunContents, thumbnail_of: Thumbnail) -> tuple[Flips, ...]:
    """Return the flips of every exported runtime, the largest margin first."""
    return tuple(_flips_of(run, runtime, thumbnail_of) for runtime in run.validation.parities)


def _flips_of(run: RunContents, runtime: str, thumbnail_of: Thumbnail) -> Flips:
    parity = run.validation.parities[runtime]
    worst = []
    for flip in sorted(parity.flips, key=lambda flip: -flip.margin)[:SHOWN]:
        name = flip.image or _name(run, flip.index)
        amount = f"margin {flip.margin:.3g}"
        worst.append(Mistake(name, flip.reference_class, flip.model_class, amount, thumbnail_of(name)))
    return Flips(runtime, parity.changed, tuple(worst))


def _name(run: RunContents, index: int) -> str:
    names = run.predictions.names if run.predictions else ()
    return names[index] if index < len(names) else f"test image {index}"


Row = tuple[str, int, int, float]


def wrong_rows(predictions: PredictionsRecord) -> list[Row]:
    """Return (name, label, prediction, confidence) of every wrong prediction, the most confident first."""
    rows = zip(predictions.names, predictions.labels, predictions.predicted, predictions.confidences, strict=True)
    wrong = [
        (name, label, predicted, confidence)
        for name, label, predicted, confidence in rows
        if predicted is not None and confidence is not None and label != predicted
    ]
    return sorted(wrong, key=lambda row: (-row[3], row[0]))


def confident_mistakes(run: RunContents, thumbnail_of: Thumbnail) -> tuple[Mistake, ...]:
    """Return the wrong predictions of the trained model, the most confident first."""
    if run.predictions is None:
        return ()
    return tuple(
        Mistake(name, label, predicted, f"{100 * confidence:.1f} % sure", thumbnail_of(name))
        for name, label, predicted, confidence in wrong_rows(run.predictions)[:SHOWN]
    )

"""Content of confidence.json: the temperature in the model, and the threshold for unknown images.

This document lies beside every exported model. Programs on the device read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tcs_edge.specs.strict import Spec, validated
from tcs_edge.utils.reading import read_json

SCHEMA_VERSION = 1


class UnknownRule(Spec):
    """Rule for images of no known class: the largest softmax probability is below `below`.

    Attributes:
        below: threshold of the largest softmax probability, in 0..1.
        false_alarm_rate: largest share of images of known classes to expect below it, in 0..1.
        images: number of validation images that set the threshold.
    """

    below: float = Field(ge=0, le=1)
    false_alarm_rate: float = Field(gt=0, lt=1)
    images: int = Field(ge=1)

    def holds(self, probability: float) -> bool:
        """Return True if an image with this largest probability, in 0..1, is unknown."""
        return probability < self.below


class Confidence(Spec):
    """Calibration of a model.

    Attributes:
        temperature: divisor of the logits, already folded into the model's last layer; 1 changes nothing.
        unknown: None if there are too few validation images for the false-alarm rate.
    """

    schema_version: Literal[1] = 1
    temperature: float = Field(gt=0, le=1e6)
    unknown: UnknownRule | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document of confidence.json."""
        return self.model_dump(mode="json")


def read_confidence(path: Path) -> Confidence:
    """Read confidence.json.

    Raises:
        DataError, SpecError: missing, damaged, or a violation of the schema.
    """
    return validated(Confidence, read_json(path, SCHEMA_VERSION), path)

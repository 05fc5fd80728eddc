"""What a run notes down for its report: the choice, the spectrum, the selection, the predictions, the timed calls.

Each is a JSON document in reports/; images are named by their path relative to the data folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from tcs_edge.errors import DataError
from tcs_edge.runs.manifest import RUN_AGAIN
from tcs_edge.runs.schema import ExpectedRecord, LatencyRecord
from tcs_edge.specs.strict import Spec, format_error
from tcs_edge.utils.files import read_json, write_json

SCHEMA_VERSION = 1


class Document(Spec):
    """Base of the documents."""

    schema_version: Literal[1] = 1


class CandidateRecord(Spec):
    """A student that was looked at: size with its head in 10^6 bytes, published ImageNet top-1 in per cent, the
    accuracy it was ranked by, and every reason against it (none: it fits). `img_size`: its input, where students
    were looked at with several sizes; None: the choice's.

    `on_pareto_front`: no other fitting student is as accurate, fast and small, and better in one of the three."""

    name: str
    img_size: int | None = Field(default=None, ge=1)
    chosen: bool
    params_m: float = Field(ge=0)
    size_mb: float = Field(ge=0)
    top1: float | None = None
    expected_accuracy: ExpectedRecord | None = None
    on_pareto_front: bool = False
    license: str | None = None
    latency: LatencyRecord | None = None
    reasons: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its name, with the input size where that tells it from others."""
        return f"{self.name} at {self.img_size} px" if self.img_size else self.name


class ChoiceRecord(Document):
    """Every student that was looked at; `named`: the user asked for the chosen one; `img_size` is its input."""

    named: bool
    ranking: str
    img_size: int = Field(ge=1)
    limits: dict[str, float]
    candidates: tuple[CandidateRecord, ...]


class CoordinatesRecord(Document):
    """The teacher's spectrum: variance along each of its axes, largest first; the first `dims` are coordinates.

    `ablation` is the experiment that a run was, see `specs.config.TcsOptions`.
    """

    dims: int = Field(ge=1)
    eigenvalues: tuple[float, ...]
    ablation: str = "none"


class RoundRecord(Spec):
    """One round of feature selection: the step, the coordinates that left, and every score then."""

    step: int = Field(ge=0)
    removed: tuple[int, ...]
    scores: tuple[float, ...]


class SelectionRecord(Document):
    """Every round of feature selection, in order."""

    rounds: tuple[RoundRecord, ...]

    @property
    def removed(self) -> frozenset[int]:
        """All coordinates that left."""
        return frozenset(index for found in self.rounds for index in found.removed)


class PredictionsRecord(Document):
    """What the trained model says of every test image, column by column.

    `labels` and `predicted` are positions in the manifest's classes; `predicted` and `confidences` (softmax of
    that class, 0..1) are None where the logits were not finite.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    predicted: tuple[int | None, ...]
    confidences: tuple[float | None, ...]

    @model_validator(mode="after")
    def _one_row_per_image(self) -> PredictionsRecord:
        if len({len(self.names), len(self.labels), len(self.predicted), len(self.confidences)}) != 1:
            raise ValueError("the columns differ in length")
        return self


class CallsRecord(Document):
    """Wall time in ms of every timed call of one image after the export, in order, per runner ("pytorch" included).

    The manifest's `latency_here` holds their percentiles.
    """

    calls_ms: dict[str, tuple[Annotated[float, Field(gt=0)], ...]]


DocumentType = TypeVar("DocumentType", bound=Document)


def write_document(path: Path, document: Document) -> None:
    """Write a document, whole or not at all."""
    write_json(path, document.model_dump(mode="json"))


def read_document(path: Path, kind: type[DocumentType]) -> DocumentType | None:
    """A document of the run; None where there is none: not every method has coordinates or selects features.

    Raises:
        DataError: it is not JSON, has another schema version, or breaks the schema.
    """
    if not path.exists():
        return None
    try:
        return kind.model_validate(read_json(path, SCHEMA_VERSION))
    except ValidationError as error:
        raise DataError(f"{path}: {format_error(error, kind, RUN_AGAIN)}") from None

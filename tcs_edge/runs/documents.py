"""Records of a run for its report: student selection, spectrum, feature selection, predictions, timed calls.

Each record is a JSON document in reports/. Images are named by their path relative to the data folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from tcs_edge.errors import DataError
from tcs_edge.models.candidates import Kind
from tcs_edge.runs.manifest import RUN_AGAIN
from tcs_edge.runs.schema import ExpectedRecord, LatencyRecord
from tcs_edge.specs.artifacts import Precision
from tcs_edge.specs.strict import Spec, format_error
from tcs_edge.specs.target import RuntimeName
from tcs_edge.utils.files import write_json
from tcs_edge.utils.reading import read_json

SCHEMA_VERSION = 1


class Document(Spec):
    """Base of the documents."""

    schema_version: Literal[1] = 1


class ExportedSize(Spec):
    """Size of an exported ONNX file with its head: measured on an export, or computed from the parameters."""

    bytes: int = Field(ge=0)
    source: Literal["measured", "computed"]


class CandidateRecord(Spec):
    """Candidate of the student selection.

    Attributes:
        img_size: input size in px; None if all candidates have the size of the selection.
        params_m: millions of parameters with the head.
        precision: precision to deploy.
        size_mb: size of the ONNX file in `precision` with the head, in 10^6 bytes.
        largest_mb: size of the largest model file in `precision`, which the size limit bounds.
        exported: sizes by precision.
        macs_m_at_224: millions of multiply-accumulates for one image of 224 px, without the head.
        latency_img_sizes: input sizes in px whose operators the latency model counted.
        top1: published ImageNet top-1 accuracy of `weights` in percent, at `top1_img_size` px.
        license: license of `weights`.
        expected_accuracy: the accuracy that ranks the candidate.
        on_pareto_front: True if no other fitting student beats it in accuracy, latency and size.
        reasons: reasons for rejection; empty for a student that fits.
    """

    name: str
    img_size: int | None = Field(default=None, ge=1)
    chosen: bool
    params_m: float = Field(ge=0)
    precision: Precision = "fp32"
    size_mb: float = Field(ge=0)
    largest_mb: float | None = Field(default=None, ge=0)
    exported: dict[Precision, ExportedSize] = Field(default_factory=dict)
    kind: Kind = "unknown"
    macs_m_at_224: float | None = Field(default=None, ge=0)
    latency_img_sizes: tuple[int, ...] = ()
    weights: str | None = None
    top1: float | None = None
    top1_img_size: int | None = None
    expected_accuracy: ExpectedRecord | None = None
    on_pareto_front: bool = False
    license: str | None = None
    latency: LatencyRecord | None = None
    reasons: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name, with the input size if candidates differ in it."""
        return f"{self.name} at {self.img_size} px" if self.img_size else self.name


class ChoiceRecord(Document):
    """All candidates of the student selection.

    Attributes:
        target: name of the device.
        runtime: runtime that the user asked for; None if the fastest one was taken for every student.
        named: True if the user named the chosen student.
        img_size: input size of the chosen student in px.
    """

    target: str
    runtime: RuntimeName | None = None
    named: bool
    ranking: str
    img_size: int = Field(ge=1)
    limits: dict[str, float]
    candidates: tuple[CandidateRecord, ...]


class CoordinatesRecord(Document):
    """The teacher's spectrum: variance along each axis, largest first; the first `dims` axes are coordinates.

    `ablation` is the ablation of the run, see `specs.config.TcsOptions`.
    """

    dims: int = Field(ge=1)
    eigenvalues: tuple[float, ...]
    ablation: str = "none"


class RoundRecord(Spec):
    """One round of feature selection: the step, the removed coordinates, and every score at that step."""

    step: int = Field(ge=0)
    removed: tuple[int, ...]
    scores: tuple[float, ...]


class SelectionRecord(Document):
    """Every round of feature selection, in order."""

    rounds: tuple[RoundRecord, ...]

    @property
    def removed(self) -> frozenset[int]:
        """All removed coordinates."""
        return frozenset(index for found in self.rounds for index in found.removed)


class PredictionsRecord(Document):
    """Predictions of the trained model for every test image, one column per field.

    `labels` and `predicted` are indices into the manifest's classes. `confidences` are softmax probabilities of
    the predicted class in 0..1. Without finite logits `predicted` and `confidences` are None.
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

    The manifest's `latency_here` has their percentiles.
    """

    calls_ms: dict[str, tuple[Annotated[float, Field(gt=0)], ...]]


DocumentType = TypeVar("DocumentType", bound=Document)


def write_document(path: Path, document: Document) -> None:
    """Write a document, whole or not at all."""
    write_json(path, document.model_dump(mode="json"))


def read_document(path: Path, kind: type[DocumentType]) -> DocumentType | None:
    """Read a record of the run; None if missing, because not every method has every record.

    Raises:
        DataError: not JSON, another schema version, or a violation of the schema.
    """
    if not path.exists():
        return None
    try:
        return kind.model_validate(read_json(path, SCHEMA_VERSION))
    except ValidationError as error:
        raise DataError(f"{path}: {format_error(error, kind, RUN_AGAIN)}") from None

"""Everything in a run folder that its report is made of, read and checked; nothing is computed again."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tcs_edge.errors import DataError
from tcs_edge.runs.documents import (
    CallsRecord,
    ChoiceRecord,
    CoordinatesRecord,
    PredictionsRecord,
    SelectionRecord,
    read_document,
)
from tcs_edge.runs.folder import REJECTED_SUFFIX, RunFolder, find_run
from tcs_edge.runs.manifest import RUN_AGAIN, FileProblem, read_manifest, verify_files
from tcs_edge.runs.schema import Manifest
from tcs_edge.specs.strict import format_error
from tcs_edge.utils.files import read_json


class _Lenient(BaseModel):
    """The part of validation.json that the report shows; what later versions add is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


RecordType = TypeVar("RecordType", bound=_Lenient)


class FlipRecord(_Lenient):
    """A test image that got another class than the trained model's; see `validation.parity.Flip`."""

    index: int
    reference_class: int
    model_class: int
    margin: float
    image: str = ""


class ParityDetails(_Lenient):
    """Parity of one exported model with the images that flipped."""

    max_abs_diff: float | None
    max_rel_diff: float | None
    min_cosine: float | None
    top1_agreement: float | None
    flips: tuple[FlipRecord, ...]
    finite: bool
    flipped: int | None = None

    @property
    def changed(self) -> int:
        """How many images flipped; the worst of very many are recorded."""
        return len(self.flips) if self.flipped is None else self.flipped


class CheckRecord(_Lenient):
    """One demand of the proof; see `validation.checks.Check`."""

    name: str
    value: float | None
    limit: float | None
    unit: str
    passed: bool
    detail: str = ""


class ValidationRecord(_Lenient):
    """reports/validation.json."""

    images: int
    checks: tuple[CheckRecord, ...]
    precisions: dict[str, str]
    parities: dict[str, ParityDetails]

    @property
    def failures(self) -> tuple[CheckRecord, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


class LayerRecord(_Lenient):
    """What one layer costs in int8; see `quantization.sensitivity.LayerCost`."""

    name: str
    kind: str
    noise: float


class Int8RoundRecord(_Lenient):
    """One try at int8; see `quantization.fallback.Round`."""

    float_layers: tuple[str, ...]
    accuracy: float
    drop: float
    drop_high: float
    sqnr_db: float | None
    failures: tuple[str, ...]


class Int8FormatRecord(_Lenient):
    """How one int8 format came out; see `quantization.quantize.Quantized`."""

    format: str
    released: bool
    schemes: dict[str, float]
    rounds: tuple[Int8RoundRecord, ...]


class Int8Report(_Lenient):
    """reports/int8.json."""

    outlook: str
    calibration_images: int
    validation_images: int
    max_accuracy_drop: float
    layers: tuple[LayerRecord, ...]
    formats: tuple[Int8FormatRecord, ...]


@dataclass(frozen=True)
class RunContents:
    """A finished run as it lies in its folder; None or empty where a run has no such thing.

    Attributes:
        problems: files that are not what the manifest recorded.
        epochs: one dict per epoch, as in metrics.jsonl.
        onnx: the exported model, released or rejected.
    """

    folder: RunFolder
    manifest: Manifest
    problems: tuple[FileProblem, ...]
    validation: ValidationRecord
    epochs: tuple[dict[str, float], ...]
    calls: CallsRecord | None
    choice: ChoiceRecord | None
    coordinates: CoordinatesRecord | None
    selection: SelectionRecord | None
    predictions: PredictionsRecord | None
    int8: Int8Report | None
    onnx: Path | None

    @property
    def name(self) -> str:
        """The run folder's own name."""
        return self.folder.root.resolve().name

    @property
    def passed(self) -> bool:
        """The verdict was pass and every file is still the one that was proved."""
        return self.manifest.verdict == "pass" and not self.problems

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.manifest.dataset.classes


def read_run(root: Path) -> RunContents:
    """Read the finished run in `root`.

    Raises:
        DataError: no run, one without a verdict, or a file of it that cannot be read.
    """
    folder = find_run(root)
    if not folder.manifest.exists():
        place = shlex.quote(str(root))
        raise DataError(f"{root} has no verdict yet. Finish it: tcs-edge compress --resume {place}")
    manifest = read_manifest(folder.root)
    return RunContents(
        folder=folder,
        manifest=manifest,
        problems=verify_files(folder.root, manifest),
        validation=_parsed(folder.validation, ValidationRecord),
        epochs=_epochs(folder.metrics),
        calls=read_document(folder.latency, CallsRecord),
        choice=read_document(folder.choice, ChoiceRecord),
        coordinates=read_document(folder.coordinates, CoordinatesRecord),
        selection=read_document(folder.selection, SelectionRecord),
        predictions=_predictions(folder.predictions, len(manifest.dataset.classes)),
        int8=_parsed(folder.int8, Int8Report) if folder.int8.exists() else None,
        onnx=_onnx(folder),
    )


def _parsed(path: Path, kind: type[RecordType]) -> RecordType:
    try:
        return kind.model_validate(read_json(path, schema_version=1))
    except ValidationError as error:
        raise DataError(f"{path}: {format_error(error, kind)}") from None


def _predictions(path: Path, classes: int) -> PredictionsRecord | None:
    record = read_document(path, PredictionsRecord)
    named = (*record.labels, *(guess for guess in record.predicted if guess is not None)) if record else ()
    if any(not 0 <= index < classes for index in named):
        raise DataError(f"{path} speaks of classes that the manifest does not have. Run compress again.")
    return record


def _epochs(path: Path) -> tuple[dict[str, float], ...]:
    if not path.exists():
        return ()
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not one JSON object per line: {error}. {RUN_AGAIN}") from None
    return tuple(_numbers(line) for line in lines if isinstance(line, dict) and "epoch" in line)


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    return {str(key): float(value) for key, value in line.items() if isinstance(value, int | float)}


def _onnx(folder: RunFolder) -> Path | None:
    places = (folder.export / "model.onnx", folder.rejected / f"model.onnx{REJECTED_SUFFIX}")
    return next((path for path in places if path.is_file()), None)

"""Read and check the files of a run folder for its report; nothing is computed again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tcs_edge.errors import DataError
from tcs_edge.report.metrics import LowestRecall, empty_classes_note, lowest_recall
from tcs_edge.runs.device_file import DeviceFile, shown_device_file
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
from tcs_edge.utils.reading import parse_json, read_json, read_regular


class _Lenient(BaseModel):
    """Part of a document that the report shows; unknown keys of later versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


RecordType = TypeVar("RecordType", bound=_Lenient)


class FlipRecord(_Lenient):
    """Test image with another class than in the trained model; see `validation.parity.Flip`."""

    index: int
    reference_class: int
    model_class: int
    margin: float
    image: str = ""


class ParityDetails(_Lenient):
    """Parity of one export, with its flipped images."""

    max_abs_diff: float | None
    max_rel_diff: float | None
    max_centered_diff: float | None
    top1_agreement: float | None
    flips: tuple[FlipRecord, ...]
    finite: bool
    flipped: int | None = None

    @property
    def changed(self) -> int:
        """Number of flipped images; `flips` may hold only those with the largest margins."""
        return len(self.flips) if self.flipped is None else self.flipped


class EmbeddingDetails(_Lenient):
    """Parity of the embeddings of one export; see `validation.parity.Parity`."""

    max_abs_diff: float | None
    max_rel_diff: float | None
    max_centered_diff: float | None
    finite: bool


class CheckRecord(_Lenient):
    """One check of the validation; see `validation.checks.Check`."""

    name: str
    value: float | None
    limit: float | None
    unit: str
    passed: bool
    detail: str = ""


class ValidationRecord(_Lenient):
    """Content of reports/validation.json."""

    images: int
    checks: tuple[CheckRecord, ...]
    precisions: dict[str, str]
    parities: dict[str, ParityDetails]
    embeddings: dict[str, EmbeddingDetails] = Field(default_factory=dict)

    @property
    def failures(self) -> tuple[CheckRecord, ...]:
        """Failed checks."""
        return tuple(check for check in self.checks if not check.passed)


class LayerRecord(_Lenient):
    """Cost of one layer in int8; see `quantization.sensitivity.LayerCost`."""

    name: str
    kind: str
    noise: float


class Int8RoundRecord(_Lenient):
    """One round of the int8 fallback; see `quantization.fallback.Round`."""

    float_layers: tuple[str, ...]
    accuracy: float
    drop: float
    drop_high: float
    sqnr_db: float | None
    failures: tuple[str, ...]


class Int8FormatRecord(_Lenient):
    """Result of one int8 format; see `quantization.quantize.Quantized`."""

    format: str
    released: bool
    schemes: dict[str, float]
    rounds: tuple[Int8RoundRecord, ...]
    finetuned_epochs: int = 0
    calibrated: tuple[Int8RoundRecord, ...] = ()


class Int8Report(_Lenient):
    """Content of reports/int8.json."""

    outlook: str
    calibration_images: int
    validation_images: int
    max_accuracy_drop: float
    layers: tuple[LayerRecord, ...]
    formats: tuple[Int8FormatRecord, ...]


@dataclass(frozen=True)
class RunContents:
    """Content of a finished run's folder; None or empty for missing files.

    Attributes:
        problems: files that differ from the manifest.
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
        """Name of the run folder."""
        return self.folder.root.resolve().name

    @property
    def command(self) -> str:
        """Command that repeats the run, from any folder; its config file has every option."""
        return f"tcs-edge compress --config {shlex.quote(str(self.folder.config.resolve()))}"

    @property
    def passed(self) -> bool:
        """True if the verdict is pass and no file changed after validation."""
        return self.manifest.verdict == "pass" and not self.problems

    @property
    def device(self) -> DeviceFile | None:
        """Model that goes to the device; None if the run released none or its files changed."""
        return shown_device_file(self.manifest) if self.passed else None

    @property
    def lowest_recalls(self) -> dict[str, LowestRecall]:
        """Class with the lowest recall, by runtime."""
        return {name: lowest_recall(found, self.classes) for name, found in self.manifest.metrics.items()}

    @property
    def empty_classes(self) -> str:
        """Note on classes without test images; empty without any."""
        found = next(iter(self.manifest.metrics.values()), None)
        return empty_classes_note(found, self.classes) if found else ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.manifest.dataset.classes


def read_run(root: Path) -> RunContents:
    """Read the finished run in `root`.

    Raises:
        DataError: not a run, a run without a verdict, or an unreadable file in it.
    """
    folder = find_run(root)
    if not folder.manifest.exists():
        place = shlex.quote(str(root))
        raise DataError(f"{root} has no verdict yet. Finish it with: tcs-edge compress --resume {place}")
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
        raise DataError(f"{path} has classes that the manifest does not have. Run compress again.")
    return record


def _epochs(path: Path) -> tuple[dict[str, float], ...]:
    if not path.exists():
        return ()
    problem = "is not one JSON object per line"
    lines = [parse_json(line, str(path), problem, RUN_AGAIN) for line in read_regular(path).splitlines()]
    return tuple(_numbers(line) for line in lines if isinstance(line, dict) and "epoch" in line)


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    return {str(key): float(value) for key, value in line.items() if isinstance(value, int | float)}


def _onnx(folder: RunFolder) -> Path | None:
    places = (folder.export / "model.onnx", folder.rejected / f"model.onnx{REJECTED_SUFFIX}")
    return next((path for path in places if path.is_file()), None)

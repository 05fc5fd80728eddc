"""Schema of manifest.json: its fields, with units; their ranges are in `ranges.py`."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tcs_edge.runs.metrics import ConfidenceRecord, MetricsRecord
from tcs_edge.runs.ranges import (
    Amount,
    Count,
    Difference,
    Milliseconds,
    Positive,
    Share,
    Threads,
    require_order,
    require_share,
)
from tcs_edge.specs.artifacts import Format, Precision
from tcs_edge.specs.machine import RecordedMachine, latency_origin, recorded_machine
from tcs_edge.specs.options import SearchName
from tcs_edge.specs.strict import Spec
from tcs_edge.utils.twins import equal_in_sight
from tcs_edge.utils.versions import PRODUCER


class DatasetRecord(Spec):
    """The images: `counts` per split, the number of `skipped` files, and of test images with a copy in train."""

    name: str
    fingerprint: str
    classes: tuple[str, ...] = Field(min_length=1)
    counts: dict[str, Count]
    skipped: Count
    builtin: bool = False
    test_copies: Count = 0

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError("two classes have the same name")
        if complaint := equal_in_sight(classes):
            raise ValueError(complaint)
        return classes


class TeacherRecord(Spec):
    """The teacher: the license and the source of its weights, and its linear probe's validation accuracy in 0..1."""

    name: str
    license: str
    weights_sha256: str
    source: str
    probe_accuracy: Share | None = None


class LatencyRecord(Spec):
    """Latency of one image on the target, used for the selection: median, interval, source and measuring machine.

    `runtime` and `precision` are those to deploy; None if the run did not record a runtime.
    """

    p50_ms: Milliseconds
    low_ms: Milliseconds
    high_ms: Milliseconds
    threads: Threads
    source: str
    citation: str
    device: str | None = None
    architecture: str | None = None
    runtime: str | None = None
    precision: Precision = "fp32"

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        require_order(self, "low_ms", "p50_ms", "high_ms")
        return self

    @property
    def machine(self) -> RecordedMachine:
        """Machine of a measured latency."""
        return recorded_machine({"device": self.device, "architecture": self.architecture})

    @property
    def origin(self) -> str:
        """The source, with the machine of a measurement."""
        return latency_origin(self.source, self.machine)


class ExpectedRecord(Spec):
    """Accuracy estimate of the student selection in percent, and its source."""

    percent: float = Field(ge=0, le=100)
    search: SearchName
    how: str


class EmbeddingRecord(Spec):
    """The second output of the exports: its number of values, and its space."""

    size: Positive
    space: Literal["coordinates", "teacher features", "features"]


class EmbeddingParityRecord(Spec):
    """Distance of an export's embeddings from the trained model's; numbers are None without finite values."""

    max_abs_diff: Difference | None
    max_rel_diff: Difference | None
    sqnr_db: float | None
    finite: bool = Field(strict=True)


class StudentRecord(Spec):
    """The student, with all facts to rebuild the network and load checkpoints/deployed.safetensors.

    `peak_memory_mb` is the size of the weights and of the activations alive at the same time, in 10^6 bytes,
    without the runtime's own memory. Unknown numbers are None.
    """

    name: str
    init: str
    img_size: int = Field(ge=1, le=4096, strict=True)
    params_m: Amount
    macs_m: Amount | None = None
    latency: LatencyRecord | None = None
    expected_accuracy: ExpectedRecord | None = None
    peak_memory_mb: Amount | None = None
    embedding: EmbeddingRecord | None = None


class StageRecord(Spec):
    """Time and memory of one stage."""

    name: str
    seconds: Amount
    peak_memory_mb: Amount | None = None


class AccuracyRecord(Spec):
    """Accuracy on the test split with its 95 % Wilson interval, all in 0..1."""

    correct: Count
    total: Positive
    value: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require_share(self, self.correct, self.total, self.value, "are correct")
        return self


class ParityRecord(Spec):
    """Distance of one export from the trained model; numbers are None without finite logits.

    `judged` is False for an arithmetic of the exporting machine that the target lacks.
    """

    precision: str
    max_abs_diff: Difference | None
    max_rel_diff: Difference | None
    top1_agreement: Share
    finite: bool = Field(strict=True)
    judged: bool = Field(default=True, strict=True)
    embedding: EmbeddingParityRecord | None = None


class HostLatency(Spec):
    """Wall time of one image on the exporting machine, over `runs` calls."""

    p50_ms: Milliseconds
    p90_ms: Milliseconds
    p99_ms: Milliseconds
    runs: int = Field(ge=2, le=10**15, strict=True)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        require_order(self, "p50_ms", "p90_ms", "p99_ms")
        return self


class LatencyHere(Spec):
    """Latencies measured after the export, per runner ("pytorch" included), with `threads` threads each."""

    machine: str
    threads: Threads
    runtimes: dict[str, HostLatency]
    remarks: tuple[str, ...] = ()


class AccuracyLossRecord(Spec):
    """Accuracy that an int8 file lost against float32 on validation images: `value`, and its 95 % bound `high`.

    `limit` is the run's `max_accuracy_drop`. All are in -1..1; 0.01 is one percentage point.

    Attributes:
        finetuned_epochs: epochs of training with simulated int8, for a file that missed the limit by calibration.
        by_calibration: loss of that file before this training.
    """

    value: float = Field(ge=-1, le=1)
    high: float = Field(ge=-1, le=1)
    images: Positive
    limit: Share
    finetuned_epochs: Count = 0
    by_calibration: float | None = Field(None, ge=-1, le=1)

    @property
    def shown(self) -> bool:
        """True if the bound is within the limit; else the file was released on request."""
        return self.high <= self.limit


class ArtifactRecord(Spec):
    """One deployable model file of the export folder.

    Attributes:
        path: relative to the run folder; an OpenVINO .xml or ncnn .param has its .bin beside it, a .tflite its .json.
        input: "image" is float32 (B, 3, S, S), preprocessed; "picture" is uint8 (H, W, 3) of any size.
        bytes: size, with the files beside it.
        loss: of an int8 file.
    """

    path: str
    format: Format
    precision: Precision
    input: Literal["image", "picture"] = "image"
    bytes: Count
    loss: AccuracyLossRecord | None = None


class ManifestFile(Spec):
    """One file of the run; `path` is relative to the run folder, with forward slashes."""

    path: str
    bytes: Count
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.parts:
            raise ValueError("a file of the run must be inside its folder")
        if str(pure) != path or not path.isprintable():
            raise ValueError("a path must have its shortest form, without control characters")
        return path


class Manifest(Spec):
    """Content of manifest.json; a run that stopped before its verdict has none.

    `export_mb` is the sum of the files in the export folder, in 10^6 bytes.
    """

    schema_version: Literal[1] = 1
    created: datetime
    versions: dict[str, str]
    seed: int
    dataset: DatasetRecord
    teacher: TeacherRecord | None
    student: StudentRecord
    target: dict[str, Any]
    options: dict[str, Any]
    stages: tuple[StageRecord, ...]
    accuracy: dict[str, AccuracyRecord]
    parity: dict[str, ParityRecord]
    verdict: Literal["pass", "fail"]
    files: tuple[ManifestFile, ...]
    export_mb: Amount
    artifacts: tuple[ArtifactRecord, ...] = ()
    latency_here: LatencyHere | None = None
    metrics: dict[str, MetricsRecord] = Field(default_factory=dict)
    confidence: ConfidenceRecord | None = None

    @field_validator("versions")
    @classmethod
    def _names_its_producer(cls, versions: dict[str, str]) -> dict[str, str]:
        if PRODUCER not in versions:
            raise ValueError(f"the version of {PRODUCER} is missing")
        return versions

    @field_validator("target")
    @classmethod
    def _has_tables(cls, target: dict[str, Any]) -> dict[str, Any]:
        runtimes = target.get("runtimes", {})
        tables = [("cpu", target.get("cpu", {})), ("runtimes", runtimes)]
        tables += list(runtimes.items()) if isinstance(runtimes, dict) else []
        for name, table in tables:
            if not isinstance(table, dict):
                raise ValueError(f"{name} must be a table")
        return target

    @model_validator(mode="after")
    def _metrics_fit(self) -> Self:
        for name, found in self.metrics.items():
            counts = (sum(found.recalls.correct), sum(found.recalls.total))
            accuracy = self.accuracy.get(name)
            if accuracy is None or counts != (accuracy.correct, accuracy.total):
                stated = f"{accuracy.correct} of {accuracy.total}" if accuracy else "missing"
                raise ValueError(
                    f"metrics of {name} count {counts[0]} of {counts[1]} correct; its accuracy is {stated}"
                )
            if len(found.recalls.total) != len(self.dataset.classes):
                raise ValueError(
                    f"metrics of {name} have {len(found.recalls.total)} classes, dataset {len(self.dataset.classes)}"
                )
        return self

    @property
    def only_here(self) -> frozenset[str]:
        """Runtimes in an arithmetic of the exporting machine that the target lacks: reported, not judged."""
        return frozenset(name for name, parity in self.parity.items() if not parity.judged)

    @field_validator("files")
    @classmethod
    def _each_once(cls, files: tuple[ManifestFile, ...]) -> tuple[ManifestFile, ...]:
        paths = [record.path for record in files]
        if twice := next((path for path in paths if paths.count(path) > 1), None):
            raise ValueError(f"{twice} has two records")
        return files

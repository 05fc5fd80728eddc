"""Schema of manifest.json: its fields, with units and ranges."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import Field, field_validator

from tcs_edge.specs.artifacts import Precision
from tcs_edge.specs.options import SearchName
from tcs_edge.specs.strict import Spec


class DatasetRecord(Spec):
    """The images: `counts` per split, and the number of `skipped` files."""

    name: str
    fingerprint: str
    classes: tuple[str, ...]
    counts: dict[str, int]
    skipped: int = Field(ge=0)
    builtin: bool = False


class TeacherRecord(Spec):
    """The teacher: the license and the source of its weights."""

    name: str
    license: str
    weights_sha256: str
    source: str


class LatencyRecord(Spec):
    """Latency of one image on the target, used for the selection: median, interval and source."""

    p50_ms: float = Field(gt=0)
    low_ms: float = Field(gt=0)
    high_ms: float = Field(gt=0)
    threads: int = Field(ge=1)
    source: str
    citation: str


class ExpectedRecord(Spec):
    """Accuracy estimate of the student selection in percent, and its source."""

    percent: float = Field(ge=0, le=100)
    search: SearchName
    how: str


class StudentRecord(Spec):
    """The student, with all facts to rebuild the network and load checkpoints/deployed.safetensors.

    `peak_memory_mb` is the size of the weights and of the activations alive at the same time, in 10^6 bytes,
    without the runtime's own memory. Unknown numbers are None.
    """

    name: str
    init: str
    img_size: int = Field(ge=1)
    params_m: float = Field(ge=0)
    macs_m: float | None = Field(default=None, ge=0)
    latency: LatencyRecord | None = None
    expected_accuracy: ExpectedRecord | None = None
    peak_memory_mb: float | None = Field(default=None, ge=0)


class StageRecord(Spec):
    """Time and memory of one stage."""

    name: str
    seconds: float = Field(ge=0)
    peak_memory_mb: float | None = Field(default=None, ge=0)


class AccuracyRecord(Spec):
    """Accuracy on the test split with its 95 % Wilson interval, all in 0..1."""

    correct: int
    total: int
    value: float
    low: float
    high: float


class ParityRecord(Spec):
    """Distance of one export from the trained model; numbers are None without finite logits."""

    precision: str
    max_abs_diff: float | None
    max_rel_diff: float | None
    top1_agreement: float
    finite: bool


class HostLatency(Spec):
    """Wall time of one image on the exporting machine, over `runs` calls."""

    p50_ms: float = Field(gt=0)
    p90_ms: float = Field(gt=0)
    p99_ms: float = Field(gt=0)
    runs: int = Field(ge=2)


class LatencyHere(Spec):
    """Latencies measured after the export, per runner ("pytorch" included), with `threads` threads each."""

    machine: str
    threads: int = Field(ge=1)
    runtimes: dict[str, HostLatency]
    remarks: tuple[str, ...] = ()


class ArtifactRecord(Spec):
    """One deployable model file of the export folder.

    Attributes:
        path: relative to the run folder; an OpenVINO .xml has its .bin beside it.
        input: "image" is float32 (B, 3, S, S), preprocessed; "picture" is uint8 (H, W, 3) of any size.
        bytes: size, with the .bin.
    """

    path: str
    format: Literal["onnx", "openvino"]
    precision: Precision
    input: Literal["image", "picture"] = "image"
    bytes: int = Field(ge=0)


class ManifestFile(Spec):
    """One file of the run; `path` is relative to the run folder, with forward slashes."""

    path: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.parts:
            raise ValueError("a file of the run must be inside its folder")
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
    export_mb: float = Field(ge=0)
    artifacts: tuple[ArtifactRecord, ...] = ()
    latency_here: LatencyHere | None = None

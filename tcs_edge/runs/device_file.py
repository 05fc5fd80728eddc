"""Pick the model of a run that goes to the device: for `bundle`, and for the headline of every report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tcs_edge.errors import UsageError
from tcs_edge.runs.folder import EXPORT
from tcs_edge.runs.manifest import exported_files
from tcs_edge.runs.schema import Manifest, ManifestFile
from tcs_edge.runtimes.registry import RUNTIMES, runtime_for
from tcs_edge.specs.artifacts import PRECISIONS, Precision, runner_name

FORMATS = {".onnx": "ONNX", ".xml": "OpenVINO IR", ".param": "ncnn", ".tflite": "LiteRT"}


@dataclass(frozen=True)
class DeviceFile:
    """Released model for a runtime.

    Attributes:
        precision: of the stored weights, as in the file name.
        files: the main file first, then those beside it, such as the .bin of an .xml or a .param.
    """

    runtime: str
    precision: Precision
    files: tuple[ManifestFile, ...]

    @property
    def name(self) -> str:
        """Path of the main file, relative to the export folder."""
        return PurePosixPath(self.files[0].path).relative_to(EXPORT).as_posix()

    @property
    def format(self) -> str:
        """Format of the file, in words."""
        return FORMATS[PurePosixPath(self.files[0].path).suffix]

    @property
    def size_mb(self) -> float:
        """Size of all files in 10^6 bytes."""
        return sum(record.bytes for record in self.files) / 1e6

    @property
    def runner(self) -> str:
        """Key of its results in the manifest."""
        return runner_name(self.runtime, self.precision)

    @property
    def facts(self) -> str:
        """Format, precision and size, in words."""
        return f"{self.format}, {self.precision}, {self.size_mb:.2f} MB"

    def __str__(self) -> str:
        return f"{self.name} ({self.facts})"


def device_file(manifest: Manifest, runtime: str | None = None, precision: str | None = None) -> DeviceFile:
    """Return the model for the device.

    Args:
        runtime: "onnxruntime", "openvino", "ncnn" or "litert"; None uses the one that the student was selected for,
            else the first one of the target.
        precision: precision of the model; None uses the one that the student was selected for, if it is below fp32.
            Otherwise it uses the target's default if the run released it, else fp32.

    Raises:
        UsageError: an unknown runtime, or the run has no such model; the message lists its models.
    """
    known = tuple(RUNTIMES)
    if runtime is not None and runtime not in known:
        raise UsageError(f"unknown runtime {runtime!r}. Known: {', '.join(known)}.")
    listed = _table(manifest.target, "runtimes")
    selected = manifest.student.latency
    expected = selected.runtime if selected and selected.runtime in listed else None
    chosen = runtime or expected or next((name for name in known if name in listed), known[0])
    advised = _table(manifest.target, "precision").get("default")
    if selected and selected.precision != "fp32":
        advised = selected.precision
    for wanted in (precision,) if precision else (advised, "fp32"):
        if found := _released(manifest, chosen, wanted):
            return found
    models = [record.path for record in exported_files(manifest) if runtime_for(PurePosixPath(record.path))]
    raise UsageError(
        f"the run has no {precision or 'fp32'} model for {chosen}. Available: {', '.join(models) or 'none'}."
    )


def shown_device_file(manifest: Manifest) -> DeviceFile | None:
    """Return the model for the device; None if the run released none."""
    if manifest.verdict != "pass":
        return None
    try:
        return device_file(manifest)
    except UsageError:
        return None


def _table(target: dict[str, Any], key: str) -> dict[str, Any]:
    table = target.get(key)
    return table if isinstance(table, dict) else {}


def _released(manifest: Manifest, runtime: str, precision: object) -> DeviceFile | None:
    recorded = {record.path: record for record in manifest.files}
    for known in PRECISIONS:
        if known == precision:
            files = [recorded.get(f"{EXPORT}/{file}") for file in RUNTIMES[runtime].files(known)]
            complete = tuple(record for record in files if record is not None)
            return DeviceFile(runtime, known, complete) if len(complete) == len(files) else None
    return None

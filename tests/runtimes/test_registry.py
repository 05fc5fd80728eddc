"""Registry: a new runtime needs one description, and all code that runs exports uses it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import get_args

import numpy as np
import pytest

from tcs_edge.bundle.device_files import edge_runtimes
from tcs_edge.commands import doctor
from tcs_edge.data import Preprocess
from tcs_edge.errors import DataError
from tcs_edge.export.own_formats import export_own_formats
from tcs_edge.profiling.device.graphs import OPENERS
from tcs_edge.runtimes.base import OwnFormat, Runtime
from tcs_edge.runtimes.metadata import read_onnx_metadata
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.registry import RUNTIMES, runtime_for
from tcs_edge.specs.artifacts import PRECISIONS
from tcs_edge.specs.target import RuntimeName
from tcs_edge.stages import time_exports
from tcs_edge.stages.validate import validate_exports


class ToyRunner(OrtRunner):
    """Runner with the results of ONNX Runtime."""

    def __init__(self, path: Path, threads: int) -> None:
        super().__init__(path, threads)
        self.name = self.name.replace("onnxruntime", "toy")


def toy_file(precision: str) -> PurePosixPath:
    return PurePosixPath("toys") / f"{precision}.toy"


def export_toy(onnx_path: Path, path: Path, precision: str) -> None:
    path.parent.mkdir(exist_ok=True)
    shutil.copy(onnx_path, path)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Runtime that reads the ONNX file."""
    runtime = Runtime("toy", ToyRunner)
    monkeypatch.setitem(RUNTIMES, "toy", runtime)
    return runtime


@pytest.fixture
def toy_with_format(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Runtime with its own file format."""
    runtime = Runtime("toy", ToyRunner, own_format=OwnFormat(toy_file, export_toy, read_onnx_metadata))
    monkeypatch.setitem(RUNTIMES, "toy", runtime)
    return runtime


def test_runtimes_of_devices_are_registered_profiled_and_bundled():
    assert tuple(RUNTIMES) == tuple(runtime.name for runtime in RUNTIMES.values())
    on_devices = get_args(RuntimeName)
    assert set(on_devices) <= set(RUNTIMES), "the runtimes that targets may name"
    assert on_devices == tuple(OPENERS), "the runtimes of the device's profiler"
    assert all(hasattr(edge_runtimes, f"load_{name}") for name in on_devices), "the runtimes of the device's scripts"


def test_no_two_models_of_a_run_share_a_file():
    files = [file for runtime in RUNTIMES.values() for precision in PRECISIONS for file in runtime.files(precision)]
    assert len(set(files)) == len(files)
    assert PurePosixPath("openvino/model.int8.bin") in files


@pytest.mark.parametrize(
    ("path", "name"), [("model.onnx", "onnxruntime"), ("openvino/model.fp16.xml", "openvino"), ("model.bin", None)]
)
def test_a_file_is_opened_by_the_first_runtime_that_exports_its_kind(path, name):
    runtime = runtime_for(PurePosixPath(path))
    assert (runtime and runtime.name) == name


def test_a_new_runtime_is_validated_and_timed(toy, model, exports, images, preprocess, resolved, monkeypatch):
    export_own_formats(exports)
    validation = validate_exports(
        model, exports, images, Preprocess.from_json(preprocess), resolved(), at_device_precision=False
    )
    assert list(validation.parities) == ["onnxruntime", "openvino", "toy"]
    assert validation.verdict == "pass"
    monkeypatch.setattr(time_exports, "BUDGET_SECONDS", 0.01)
    here, _ = time_exports.measure_latency(model, exports, Preprocess.from_json(preprocess), resolved())
    assert "toy" in here.runtimes
    assert here.remarks == ()


def test_an_own_format_is_exported_and_its_metadata_checked(
    toy_with_format, model, exports, images, preprocess, resolved
):
    export_own_formats(exports)
    steps = Preprocess.from_json(preprocess)
    validation = validate_exports(model, exports, images, steps, resolved(), at_device_precision=False)
    assert validation.verdict == "pass"
    assert {"toy: precision", "toy: preprocessing"} <= {check.name for check in validation.checks}
    (exports / toy_file("fp32")).write_bytes(b"")
    broken = validate_exports(model, exports, images, steps, resolved(), at_device_precision=False)
    assert {check.name.partition(":")[0] for check in broken.failures} == {"toy"}


def test_a_runtime_that_refuses_the_file_fails_its_checks(model, exports, images, preprocess, resolved, monkeypatch):
    def refuses(path: Path, threads: int) -> ToyRunner:
        raise DataError("no such operator")

    export_own_formats(exports)
    monkeypatch.setitem(RUNTIMES, "toy", Runtime("toy", refuses))
    steps = Preprocess.from_json(preprocess)
    validation = validate_exports(model, exports, images, steps, resolved(), at_device_precision=False)
    assert {check.name.partition(":")[0] for check in validation.failures} == {"toy"}


class CoarseRunner(ToyRunner):
    """Runner with bfloat16 arithmetic and a large error."""

    arithmetic = precision = "bf16"

    def __init__(self, path: Path, threads: int) -> None:
        super().__init__(path, threads)
        self.name = "toy-device"

    def run(self, images: np.ndarray) -> np.ndarray:
        return super().run(images) + 5


@pytest.mark.parametrize("arithmetic", ["f32", "f16", "bf16"])
def test_only_the_arithmetic_of_the_target_is_judged(
    model, exports, images, preprocess, resolved, monkeypatch, arithmetic
):
    export_own_formats(exports)
    monkeypatch.setitem(RUNTIMES, "toy", Runtime("toy", ToyRunner, open_as_deployed=CoarseRunner))
    monkeypatch.delitem(RUNTIMES, "openvino")
    steps = Preprocess.from_json(preprocess)
    validation = validate_exports(model, exports, images, steps, resolved(), arithmetic=arithmetic)
    judged = any(check.name.startswith("toy-device") for check in validation.checks)
    assert judged == (arithmetic == "bf16")
    assert validation.only_here == (() if judged else ("toy-device",))
    assert "toy-device" in validation.parities
    assert ("toy-f16" in validation.parities) == (arithmetic == "f16")


def test_doctor_runs_a_new_runtime(toy, offline):
    found = {row.name: row.state for row in doctor.examine().rows}
    assert found["runs toy"] == found["runs onnxruntime"] == "ok"


@pytest.mark.slow
def test_a_run_uses_a_new_runtime(toy, cli, tiny, tmp_path):
    """The run validates and times the runtime, and a second validation finds it."""
    run = tmp_path / "run"
    result = cli(*tiny(), "--out", run)
    assert result.exit_code == 0, result.stderr
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["parity"]["toy"]["finite"]
    assert manifest["latency_here"]["runtimes"]["toy"]["p50_ms"] > 0
    again = cli("validate", run)
    assert again.exit_code == 0, again.stderr
    assert "toy" in again.stdout

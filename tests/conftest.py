"""Fixtures of all tests: one tiny run of `tcs-edge compress` per test process, and its images and weights."""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

# One thread per test process: two processes that spin with two threads each are far slower than one.
# Set before torch and numpy are imported; processes that a test starts inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Checks and features of test images stay out of the user's cache. Processes that a test starts share the folder.
if "TCS_EDGE_CACHE" not in os.environ:
    os.environ["TCS_EDGE_CACHE"] = tempfile.mkdtemp(prefix="tcs-edge-tests-")
    atexit.register(shutil.rmtree, os.environ["TCS_EDGE_CACHE"], ignore_errors=True)

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from typer.testing import CliRunner

from tcs_edge.cli.app import app
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.specs.defaults import ChosenStudent, Machine, resolve, with_data_defaults
from tcs_edge.specs.profile import LatencyRow, Profile, Source
from tcs_edge.specs.target import TargetSpec, load_target
from tcs_edge.utils.logs import logged_to
from tcs_edge.utils.progress import shown_on

# Tests import onnxruntime, openvino and nncf too; disable their telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# No deadline: a busy machine must not fail a test.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

SHARED = Path(os.environ.get("TCS_EDGE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
COLORS = {"blue": (40, 80, 200), "green": (50, 190, 70), "red": (210, 60, 40)}
COUNTS = {"train": 24, "val": 8, "test": 12}

Cli = Callable[..., Any]
Item = TypeVar("Item")


class Recorder(logging.Handler):
    """Log handler that keeps the package's messages by level, and its progress."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.warned: list[str] = []
        self.details: list[str] = []
        self.tracked: list[tuple[str, int | None]] = []
        self.ticks = 0

    def emit(self, record: logging.LogRecord) -> None:
        kept = {logging.INFO: self.said, logging.WARNING: self.warned, logging.DEBUG: self.details}
        kept[record.levelno].append(record.getMessage())

    def track(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        self.tracked.append((description, total))
        self.ticks = 0
        for item in items:
            self.ticks += 1
            yield item
        assert total is None or self.ticks <= total

    def busy(self, description: str) -> AbstractContextManager[object]:
        return nullcontext()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape bytes of file names in captured output, which a test process cannot send to the one that collects."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    kept = Recorder()
    with logged_to(kept), shown_on(kept):
        yield kept


@pytest.fixture(scope="session")
def resolved() -> Callable[..., ResolvedConfig]:
    """resolved(epochs=3, ...): options of a run of a CNN named lcnet_050 on images of 32 px."""

    def make(kind: str = "cnn", **options: Any) -> ResolvedConfig:
        given = {"target": "raspberrypi4", "student": "lcnet_050"} | options
        asked = with_data_defaults(CompressConfig.model_validate(given), 32)
        student = ChosenStudent(asked.student, kind, asked.img_sizes[0])
        machine = Machine(asked.threads or 1, 0, "no" if asked.train.amp == "auto" else asked.train.amp)
        return resolve(asked, student, "table", asked.precision or ("fp32",), machine)

    return make


def _image(color: tuple[int, int, int], seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, 45, (40, 40, 3))
    return Image.fromarray((np.array(color) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train/, val/ and test/: three classes of noise around a color, 40 px, PNG and JPEG. Read only."""
    root = tmp_path_factory.mktemp("photos")
    seed = 0
    for part, count in COUNTS.items():
        for name, color in COLORS.items():
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                seed += 1
                suffix = "png" if index % 2 else "jpg"
                _image(color, seed).save(root / part / name / f"{index:02d}.{suffix}")
    return root


@pytest.fixture
def own_photos(photos: Path, tmp_path: Path) -> Path:
    """A copy of `photos` that a test may change."""
    return shutil.copytree(photos, tmp_path / "photos")


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of teacher timm/test_vit."""
    import timm  # here, so that tests of specs and files start at once
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "test_vit.safetensors"
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="session")
def cli() -> Cli:
    """cli("predict", folder, ...): run a command in this process; return exit code, stdout and stderr."""
    runner = CliRunner()

    def invoke(*arguments: object) -> Any:
        return runner.invoke(app, [str(argument) for argument in arguments], prog_name="tcs-edge")

    return invoke


@pytest.fixture(scope="session")
def tiny(photos: Path, teacher_file: Path, feature_cache: Path) -> Callable[..., list[str]]:
    """tiny(epochs=3): arguments of a `compress` that takes seconds; None leaves an option out."""

    def arguments(**changes: object) -> list[str]:
        options: dict[str, object] = {
            "target": "raspberrypi4", "data": photos, "teacher": "timm/test_vit", "teacher_weights": teacher_file,
            "teacher_img_size": 64, "student": "lcnet_050", "student_init": "random", "img_size": 64,
            "epochs": 6, "batch_size": 12, "lr": 1e-2, "device": "cpu", "threads": 1, "workers": 0,
            "cache_dir": feature_cache,
        }  # fmt: skip
        chosen = {name: value for name, value in (options | changes).items() if value is not None}
        flags = [(f"--{name.replace('_', '-')}", str(value)) for name, value in chosen.items()]
        return ["compress", *(word for flag in flags for word in flag)]

    return arguments


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run pass whose training is too short for an accuracy above chance."""
    from tcs_edge.validation.checks import BETTER_THAN_CHANCE, holds

    monkeypatch.setattr("tcs_edge.stages.validate.chance_check", lambda *_: holds(BETTER_THAN_CHANCE, True))


@pytest.fixture(scope="session")
def finished_result(cli: Cli, tiny: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Result of `compress --json` for a run that passed."""
    result = cli(*tiny(), "--out", tmp_path_factory.mktemp("runs") / "finished", "--json")
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="session")
def finished(finished_result: Any) -> Path:
    """Folder of a run that passed. Read only."""
    return Path(json.loads(finished_result.stdout)["run"])


@pytest.fixture
def own_run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(scope="session")
def manifest(finished: Path) -> dict:
    return json.loads((finished / "manifest.json").read_text())


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Disable the model hub and use an empty hub cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """shared("data/clothing"): path of real images or weights; skip the test if it is missing."""

    def find(relative: str) -> Path:
        if not (SHARED / relative).exists():
            pytest.skip(f"no {relative} in {SHARED}; set TCS_EDGE_SHARED")
        return SHARED / relative

    return find


@pytest.fixture(scope="session")
def shared_folder(shared: Callable[[str], Path]) -> Path:
    """Folder of real images and weights."""
    return shared("data").parent


@pytest.fixture
def target() -> TargetSpec:
    """Raspberry Pi 4, with four threads by default."""
    return load_target("raspberrypi4")


@pytest.fixture
def make_row() -> Callable[..., LatencyRow]:
    def make(
        model: str,
        p50_ms: float,
        high_ms: float | None = None,
        img_size: int = 96,
        threads: int = 4,
        source: Source = "measured",
    ) -> LatencyRow:
        return LatencyRow(
            model=model,
            img_size=img_size,
            runtime="onnxruntime",
            threads=threads,
            precision="fp32",
            p50_ms=p50_ms,
            low_ms=p50_ms / 1.1,
            high_ms=high_ms or p50_ms * 1.1,
            source=source,
            citation="test",
        )

    return make


@pytest.fixture
def make_profile() -> Callable[..., Profile]:
    def make(*rows: LatencyRow) -> Profile:
        return Profile(target="raspberrypi4", citations={"test": "made up"}, rows=rows)

    return make


FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def find_chromium(bundled: str) -> str | None:
    """Return the path of the system's Chromium, or of Playwright's."""
    named = os.environ.get("TCS_EDGE_CHROMIUM")
    found = (named, *map(shutil.which, ("chromium", "chromium-browser", "google-chrome")), bundled)
    return next((path for path in found if path and Path(path).is_file()), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="pages are tested with playwright")
    with playwright.sync_playwright() as driver:
        chromium = find_chromium(driver.chromium.executable_path)
        if chromium is None:
            pytest.skip("no Chromium: install it, or name it in TCS_EDGE_CHROMIUM")
        opened = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def onnxruntime_web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the npm package: from the environment variable, or installed."""
    if named := os.environ.get("TCS_EDGE_ONNXRUNTIME_WEB"):
        return Path(named)
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("onnxruntime-web was not found: there is neither npm nor TCS_EDGE_ONNXRUNTIME_WEB")
    folder = tmp_path_factory.mktemp("npm")
    command = [
        npm,
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(folder),
        "onnxruntime-web",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not fetch onnxruntime-web in time")
    if done.returncode:
        pytest.skip(f"npm cannot fetch onnxruntime-web: {done.stderr.strip().splitlines()[-1:]}")
    return folder / "node_modules" / "onnxruntime-web"


TINY_IMG_SIZE = 32


@pytest.fixture(scope="session")
def labels() -> tuple[str, ...]:
    """Class names of the tiny model, with special characters."""
    return ("cat", 'the "dog"', "Straße & <b>", "δ")


@pytest.fixture(scope="session")
def preprocess() -> dict[str, Any]:
    """The tiny model's preprocessing, as JSON."""
    from tcs_edge.data.preprocess import Preprocess

    return Preprocess(img_size=TINY_IMG_SIZE).to_json()


@pytest.fixture(scope="session")
def model(labels: tuple[str, ...]) -> Any:
    """A tiny classifier with random weights, (B, 3, 32, 32) -> (B, 4), in eval mode."""
    import timm
    import torch

    torch.manual_seed(0)
    return timm.create_model("test_efficientnet", num_classes=len(labels)).eval()


@pytest.fixture(scope="session")
def onnx_path(
    model: Any, labels: tuple[str, ...], preprocess: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model as ONNX, made once."""
    from tcs_edge.export.onnx import export_onnx

    path = tmp_path_factory.mktemp("static") / "model.onnx"
    return export_onnx(model, path, TINY_IMG_SIZE, labels=labels, preprocess=preprocess)


@pytest.fixture(scope="session")
def xml_path(onnx_path: Path) -> Path:
    """The tiny model as OpenVINO IR, made once."""
    from tcs_edge.runtimes.openvino.export import export_openvino

    return export_openvino(onnx_path, onnx_path.with_suffix(".xml"))[0]


@pytest.fixture(scope="session")
def param_path(onnx_path: Path) -> Path:
    """The tiny model for ncnn, made once: a .param with its .bin and .json."""
    from tcs_edge.runtimes.ncnn.export import export_ncnn

    return export_ncnn(onnx_path, onnx_path.parent / "ncnn" / "model.param")[0]


@pytest.fixture(scope="session")
def tflite_path() -> Path:
    """A LiteRT model of four layers, made beforehand because the converter is rarely installed. Read only."""
    return Path(__file__).parent / "runtimes" / "litert" / "tiny.tflite"


HOSTILE_CLASSES = ('<b>&"\'cat"</b>', "a|b\n| c `d`", "كلب", "🐶 @everyone", "../../etc/passwd", "x\u202egpj\x1b[31m")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run(name="head", weights=1000, correct=90, ...): write a run folder without training; return its path."""
    from datetime import UTC, datetime

    from tcs_edge.runs.folder import open_run
    from tcs_edge.runs.manifest import build_manifest, write_manifest
    from tcs_edge.runs.schema import DatasetRecord, LatencyRecord, StudentRecord
    from tcs_edge.validation.accuracy import Accuracy
    from tcs_edge.validation.checks import holds
    from tcs_edge.validation.metrics import Metrics, MetricsMeter
    from tcs_edge.validation.parity import compare
    from tcs_edge.validation.validate import Validation

    def metrics(correct: int, classes: int) -> Metrics:
        """Metrics of 100 images, their classes in turns; the last images are taken for the next class."""
        meter, labels = MetricsMeter(), np.arange(100) % classes
        predicted = np.where(np.arange(100) < correct, labels, (labels + 1) % classes)
        meter.add(3.0 * np.eye(classes)[predicted], labels)
        return meter.result()

    def make(
        name: str = "run",
        weights: int = 1_000_000,
        correct: int = 90,
        passed: bool = True,
        target: str = "raspberrypi4",
        precision: str = "f32",
        images: str = "ab",
        latency_ms: float | None = 10.0,
        classes: tuple[str, ...] = HOSTILE_CLASSES,
    ) -> Path:
        run = open_run(tmp_path / name)
        (run.unvalidated / "model.onnx").write_bytes(b"w" * weights)
        (run.unvalidated / "labels.txt").write_bytes(b"c" * 100)
        run.deployed_weights.write_bytes(b"weights")
        run.apply_verdict(passed)
        logits = np.array([[2.0, 1.0]])
        latency = (
            None if latency_ms is None else (latency_ms, latency_ms / 2, latency_ms * 2, 4, "estimated", "a table")
        )
        names = ("p50_ms", "low_ms", "high_ms", "threads", "source", "citation")
        student = StudentRecord(
            name="lcnet_050", init="random", img_size=32, params_m=0.6, macs_m=3.9,
            latency=None if latency is None else LatencyRecord(**dict(zip(names, latency, strict=True))),
        )  # fmt: skip
        validation = Validation(
            images=100,
            checks=(holds("onnxruntime: runs on every image", passed),),
            precisions={"pytorch": "f32", "onnxruntime": precision},
            accuracies={
                "pytorch": Accuracy.of_counts(92, 100),
                "onnxruntime": Accuracy.of_counts(correct, 100),
            },
            parities={"onnxruntime": compare(logits, logits)},
            metrics={
                "pytorch": metrics(92, len(classes)),
                "onnxruntime": metrics(correct, len(classes)),
            },
        )
        manifest = build_manifest(
            run.root, created=datetime(2026, 3, 1, tzinfo=UTC), seed=0,
            dataset=DatasetRecord(name="pets", fingerprint=images, classes=classes, counts={"test": 100}, skipped=0),
            teacher=None, student=student, target={"name": target}, options={}, stages=[], validation=validation,
        )  # fmt: skip
        write_manifest(run.root, manifest)
        return run.root

    return make


@pytest.fixture
def selfcheck_of(tmp_path: Path) -> Callable[..., Path]:
    """selfcheck_of(run, verdict="fail", high_ms=...): write a selfcheck.json of the run's model; return its path.

    Changes of a latency apply to its only row, all others to the document.
    """
    from tcs_edge.utils.files import sha256_file

    row = {
        "model": "lcnet_050", "img_size": 32, "batch": 1, "runtime": "onnxruntime", "runtime_version": "1.22.0",
        "threads": 4, "precision": "fp32", "arithmetic": "f32", "p50_ms": 3.0, "p90_ms": 3.5, "p99_ms": 4.0,
        "low_ms": 2.9, "high_ms": 3.2, "runs": 500, "process_peak_memory_mb": 80.0, "source": "measured",
    }  # fmt: skip

    def write(run: Path, **changes: object) -> Path:
        measured = {name: value for name, value in changes.items() if name in row}
        document = {
            "schema_version": 1, "kind": "tcs-edge selfcheck", "verdict": "pass", "measured": "2026-03-02",
            "target": "raspberrypi4", "model_sha256": [sha256_file(run / "export" / "model.onnx")],
            "machine": {"device": "Raspberry Pi 4", "architecture": "aarch64"},
            "checks": [{"name": "files", "passed": True, "detail": ""}],
            "rows": [row | measured],
        }  # fmt: skip
        path = tmp_path / "selfcheck.json"
        path.write_text(json.dumps(document | {name: changes[name] for name in changes if name not in row}))
        return path

    return write

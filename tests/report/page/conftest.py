"""Runs with recorded reports, and a browser to open their pages."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tcs_edge.runs.documents import (
    CallsRecord,
    CandidateRecord,
    ChoiceRecord,
    CoordinatesRecord,
    PredictionsRecord,
    RoundRecord,
    SelectionRecord,
    write_document,
)
from tcs_edge.runs.folder import RunFolder
from tcs_edge.runs.schema import LatencyRecord

IMAGES = 24
# Milliseconds of each call, the slowest last.
CALLS = {
    "pytorch": tuple(3 + index / 100 for index in range(101)),
    "onnxruntime": tuple(1 + index / 100 for index in range(101)),
    "openvino-int8": (*(0.5 + index / 1000 for index in range(100)), 9.0),
}


def candidate(name: str, latency_ms: float, top1: float, *reasons: str, chosen: bool = False) -> CandidateRecord:
    latency = LatencyRecord(
        p50_ms=latency_ms, low_ms=latency_ms / 2, high_ms=2 * latency_ms, threads=4, source="estimated", citation="x"
    )
    return CandidateRecord(name=name, chosen=chosen, params_m=1, size_mb=4, top1=top1, latency=latency, reasons=reasons)


def choice() -> ChoiceRecord:
    return ChoiceRecord(
        target="raspberrypi4",
        named=False,
        ranking="most accurate first",
        img_size=32,
        limits={"max_latency_ms": 5.0},
        candidates=(
            candidate("lcnet_050", 2, 63, chosen=True),
            candidate("smaller", 1, 60),
            candidate("larger", 9, 80, "larger: 9 ms is over the 5 ms limit"),
        ),
    )


def validation(failed: str | None = None) -> dict[str, Any]:
    """reports/validation.json of a run whose first two test images flipped."""
    checks = [{"name": "onnxruntime: runs", "value": None, "limit": None, "unit": "", "passed": True, "detail": ""}]
    if failed:
        checks.append(
            {"name": failed, "value": 0.5, "limit": 0.1, "unit": "of max |logit|", "passed": False, "detail": "<i>"}
        )
    flips = [
        {"index": index, "reference_class": index, "model_class": index + 1, "margin": 10.0**-index} for index in (0, 1)
    ]
    parity = {
        "max_abs_diff": 1e-5, "max_rel_diff": 1e-6, "max_centered_diff": 1e-5, "top1_agreement": 0.9, "flips": flips,
        "finite": True,
    }  # fmt: skip
    return {
        "schema_version": 1, "verdict": "fail" if failed else "pass", "images": IMAGES, "checks": checks,
        "precisions": {"pytorch": "f32", "onnxruntime": "f32"}, "accuracies": {}, "parities": {"onnxruntime": parity},
    }  # fmt: skip


def latency_here() -> dict[str, Any]:
    """The manifest's record of CALLS."""
    runtimes = {
        name: {"p50_ms": calls[50], "p90_ms": calls[90], "p99_ms": calls[99], "runs": len(calls)}
        for name, calls in CALLS.items()
    }
    remarks = ["openvino was not timed: <i>no such kernel</i>"]
    return {"machine": "x86_64, Linux", "threads": 2, "runtimes": runtimes, "remarks": remarks}


@pytest.fixture
def noted_run(make_run: Callable[..., Path]) -> Callable[..., Path]:
    """noted_run(failed=None, ...): write a run without training but with every record of a report; return its path."""

    def make(failed: str | None = None, names: tuple[str, ...] | None = None, **changes: Any) -> Path:
        folder = RunFolder(make_run(passed=failed is None, **changes))
        document = json.loads(folder.manifest.read_text())
        folder.manifest.write_text(json.dumps(document | {"latency_here": latency_here()}))
        write_document(folder.latency, CallsRecord(calls_ms=CALLS))
        classes = len(document["dataset"]["classes"])
        folder.validation.write_text(json.dumps(validation(failed)))
        write_document(folder.choice, choice())
        spectrum = tuple(math.exp(-axis / 4) for axis in range(40))
        write_document(folder.coordinates, CoordinatesRecord(dims=30, eigenvalues=spectrum))
        rounds = (RoundRecord(step=5, removed=(3, 4, 29), scores=()), RoundRecord(step=9, removed=(10,), scores=()))
        write_document(folder.selection, SelectionRecord(rounds=rounds))
        labels = tuple(index % classes for index in range(IMAGES))
        predicted = tuple((label + (index % 5 == 0)) % classes for index, label in enumerate(labels))
        confidences = tuple(0.5 + 0.02 * index for index in range(IMAGES))
        names = names or tuple(f"test/{index:02d}.png" for index in range(IMAGES))
        columns = {"names": names, "labels": labels, "predicted": predicted, "confidences": confidences}
        write_document(folder.predictions, PredictionsRecord(**columns))
        lines = [
            {"epoch": epoch, "lr": 0.1, "loss": 3 / epoch, "ce": 2 / epoch, "mimic": 1 / epoch,
             "val_accuracy": 1 - 1 / epoch, "seconds": 1.0}
            for epoch in range(1, 9)
        ]  # fmt: skip
        folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder.root

    return make


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Test images of a `noted_run`: 80 px, one color each."""
    folder = tmp_path / "pictures"
    (folder / "test").mkdir(parents=True)
    for index in range(IMAGES):
        Image.new("RGB", (80, 60), (10 * index, 200, 100)).save(folder / "test" / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for screenshots: TCS_EDGE_SCREENSHOTS, which CI can keep, or a temporary one."""
    named = os.environ.get("TCS_EDGE_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder

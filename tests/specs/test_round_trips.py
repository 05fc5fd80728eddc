"""Every spec survives writing and reading: parse, dump, parse gives the same spec."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import SpecError
from tcs_edge.gate.baseline import BaselineFile
from tcs_edge.gate.limits import GateLimits
from tcs_edge.gate.selfcheck import SelfCheck
from tcs_edge.project.read import ProjectFile, find_limits
from tcs_edge.runs.documents import (
    CallsRecord,
    ChoiceRecord,
    CoordinatesRecord,
    PredictionsRecord,
    SelectionRecord,
    read_document,
    write_document,
)
from tcs_edge.runs.manifest import parse_manifest, read_manifest, write_manifest
from tcs_edge.specs.confidence import Confidence, read_confidence
from tcs_edge.specs.config import CompressConfig, load_config
from tcs_edge.specs.locate import shipped_files
from tcs_edge.specs.profile import Profile, load_profile, save_profile
from tcs_edge.specs.strict import validated
from tcs_edge.specs.target import TargetSpec, load_target
from tcs_edge.utils.files import write_json
from tcs_edge.utils.reading import read_json

ROOT = Path(__file__).resolve().parents[2]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# Values for a leaf; a leaf of a document mostly stays of its own type.
OTHERS = {
    bool: st.booleans(),
    int: st.integers(0, 50) | st.integers(),
    float: st.floats(0, 1) | st.floats(allow_nan=False, allow_infinity=False),
    str: TEXT,
    type(None): st.none() | st.floats(0.01, 1) | st.integers(1, 500),
}


def leaves(document: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of every value that is not a container."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    found = []
    for key, value in items:
        found += leaves(value) if isinstance(value, dict | list) else [(document, key)]
    return found


@st.composite
def changed(draw: Callable[..., Any], document: Any) -> Any:
    """Return a copy with one to four other leaves."""
    copy = json.loads(json.dumps(document))
    for container, key in draw(st.lists(st.sampled_from(leaves(copy)), min_size=1, max_size=4)):
        container[key] = draw(OTHERS[type(container[key])])
    return copy


def shipped(kind: str, name: str) -> str:
    return shipped_files(kind)[name].read_text(encoding="utf-8")


def profile() -> dict[str, Any]:
    document = json.loads(shipped("profiles", "raspberrypi4"))
    document["rows"] = document["rows"][:2]
    return document


def again_toml(spec: BaseModel, folder: Path) -> BaseModel:
    path = folder / "spec.toml"
    path.write_bytes(tomli_w.dumps(spec.model_dump(mode="json", exclude_none=True)).encode())
    return validated(type(spec), load_config(path), path)


def again_json(spec: BaseModel, folder: Path) -> BaseModel:
    path = folder / "spec.json"
    write_json(path, spec.model_dump(mode="json"))
    return type(spec).model_validate(read_json(path, 1))


def again_target(spec: TargetSpec, folder: Path) -> TargetSpec:
    path = folder / "mine.toml"
    document = spec.model_dump(mode="json", exclude_none=True)
    path.write_bytes(tomli_w.dumps(document).encode())
    return load_target(path)


def again_limits(spec: GateLimits, folder: Path) -> GateLimits:
    own = {"gate": spec.model_dump(mode="json", exclude_none=True)}
    (folder / "tcs-edge.toml").write_bytes(tomli_w.dumps(own).encode())
    return find_limits(folder, {})[0]


def again_profile(spec: Profile, folder: Path) -> Profile:
    save_profile(spec, folder / "profile.json")
    return load_profile(folder / "profile.json")


def again_confidence(spec: Confidence, folder: Path) -> Confidence:
    write_json(folder / "confidence.json", spec.to_json())
    return read_confidence(folder / "confidence.json")


def again_manifest(spec: Any, folder: Path) -> Any:
    write_manifest(folder, spec)
    return read_manifest(folder)


def again_document(spec: Any, folder: Path) -> Any:
    write_document(folder / "document.json", spec)
    return read_document(folder / "document.json", type(spec))


GATE = {
    "max_size_mb": {"fail": 5.0, "warn": 4.5}, "max_latency_ms": 20.0, "min_accuracy": 0.9, "baseline": "gate.json",
    "change": {"size_mb": "5 %", "accuracy": 0.01, "latency_ms": {"fail": 2.0, "warn": "3 %"}},
}  # fmt: skip
CONFIG = {
    "target": "raspberrypi4", "data": "photos", "exclude": ["a", "b*"], "shots": 3, "seed": 1, "student": "lcnet_050",
    "img_size": 64, "epochs": 3, "lr": 0.01, "batch_size": 8, "max_latency_ms": 5.0, "precision": ["fp32", "int8"],
    "teacher_onnx": "t.onnx", "teacher_mean": [0.5, 0.5, 0.5], "teacher_std": [0.5, 0.5, 0.5], "threads": 2,
    "train": {"mixup": 0.2, "amp": "auto", "weight_decay": 0.1}, "tcs": {"dims": 9, "mimic_weight": 0.5},
}  # fmt: skip
ROW = {
    "model": "a", "img_size": 32, "batch": 1, "runtime": "onnxruntime", "runtime_version": "1", "threads": 4,
    "precision": "fp32", "arithmetic": "f32", "p50_ms": 3.0, "p90_ms": 3.5, "p99_ms": 4.0, "low_ms": 2.9,
    "high_ms": 3.2, "runs": 500, "process_peak_memory_mb": 80.0, "source": "measured",
}  # fmt: skip
SELFCHECK = {
    "schema_version": 1, "kind": "tcs-edge selfcheck", "verdict": "pass", "measured": "2026-03-02", "target": "x",
    "model_sha256": ["0" * 64], "machine": {"device": "Pi", "cores": 4}, "rows": [ROW],
    "checks": [{"name": "files", "passed": True, "detail": ""}],
}  # fmt: skip
CHOICE = {
    "target": "x", "named": False, "ranking": "r", "img_size": 32, "limits": {"max_latency_ms": 3.0},
    "candidates": [{"name": "a", "chosen": True, "params_m": 1.0, "size_mb": 2.0, "top1": None, "reasons": ["slow"],
                    "exported": {"fp32": {"bytes": 9, "source": "measured"}}}],
}  # fmt: skip
SPECS: dict[str, tuple[Callable[[dict], Any], Callable[[], Any], Callable[[Any, Path], Any]]] = {
    "config": (CompressConfig.model_validate, lambda: CONFIG, again_toml),
    "project": (ProjectFile.model_validate, lambda: CONFIG | {"gate": GATE}, again_toml),
    "limits": (GateLimits.model_validate, lambda: GATE, again_limits),
    "target": (TargetSpec.model_validate, lambda: tomllib.loads(shipped("targets", "raspberrypi4")), again_target),
    "profile": (Profile.model_validate, profile, again_profile),
    "confidence": (
        Confidence.model_validate,
        lambda: {"temperature": 1.5, "unknown": {"below": 0.5, "false_alarm_rate": 0.05, "images": 100}},
        again_confidence,
    ),
    "baseline": (
        BaselineFile.model_validate,
        lambda: json.loads((ROOT / "examples" / "ci" / "gate.json").read_text()),
        again_json,
    ),
    "selfcheck": (SelfCheck.model_validate, lambda: SELFCHECK, again_json),
    "manifest": (
        lambda document: parse_manifest(document, "m"),
        lambda: json.loads((ROOT / "examples" / "ci" / "model" / "manifest.json").read_text()),
        again_manifest,
    ),
    "choice": (ChoiceRecord.model_validate, lambda: CHOICE, again_document),
    "spectrum": (CoordinatesRecord.model_validate, lambda: {"dims": 2, "eigenvalues": [2.0, 1.0]}, again_document),
    "selection": (
        SelectionRecord.model_validate,
        lambda: {"rounds": [{"step": 1, "removed": [0, 2], "scores": [0.5, 0.1]}]},
        again_document,
    ),
    "predictions": (
        PredictionsRecord.model_validate,
        lambda: {"names": ["a", "b"], "labels": [0, 1], "predicted": [1, None], "confidences": [0.5, None]},
        again_document,
    ),
    "calls": (CallsRecord.model_validate, lambda: {"calls_ms": {"pytorch": [1.0, 2.0]}}, again_document),
    "preprocess": (
        Preprocess.from_json,
        lambda: Preprocess(32, crop_pct=0.9, resize="stretch").to_json(),
        lambda spec, _: Preprocess.from_json(json.loads(json.dumps(spec.to_json()))),
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_survives_writing_and_reading(tmp_path, name):
    parse, make, again = SPECS[name]
    original, kept = make(), []
    assert again(first := parse(original), tmp_path) == first

    @settings(max_examples=60, derandomize=True)
    @given(changed(original))
    def check(document: Any) -> None:
        try:
            spec = parse(document)
        except (ValueError, SpecError):  # refused: another test's matter
            return
        except Exception as error:
            if type(error).__name__ != "DataError":
                raise
            return
        kept.append(spec)
        assert again(spec, tmp_path) == spec

    check()
    assert len(kept) >= 5

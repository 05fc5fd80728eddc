from __future__ import annotations

import subprocess
import sys
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tcs_edge.export.onnx import export_onnx
from tcs_edge.models.candidates import CANDIDATES, LEFT_OUT, Candidate, exported_bytes, exported_openvino_bytes
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.openvino.export import export_openvino
from tcs_edge.specs.profile import load_profile
from tcs_edge.students.build import build_student, candidate_from_model, deployable, feature_dim


def test_every_registry_entry_is_complete() -> None:
    assert len(CANDIDATES) >= 40
    for name, candidate in CANDIDATES.items():
        assert candidate.name == name
        assert None not in astuple(candidate)
    assert {candidate.kind for candidate in CANDIDATES.values()} == {"cnn", "hybrid", "transformer"}


@pytest.mark.parametrize("name", CANDIDATES)
def test_timm_has_the_pretrained_weights_with_this_license(name: str) -> None:
    candidate = CANDIDATES[name]
    cfg = timm.get_pretrained_cfg(candidate.weights)
    assert cfg.hf_hub_id == f"timm/{candidate.weights}"
    assert cfg.license == candidate.license


@pytest.mark.slow
@pytest.mark.parametrize("name", CANDIDATES)
def test_the_facts_equal_the_models(name: str) -> None:
    stated, real = CANDIDATES[name], candidate_from_model(name)
    assert stated.params_m == pytest.approx(real.params_m, abs=1e-6)
    assert stated.feature_dim == real.feature_dim
    assert stated.macs_m == pytest.approx(real.macs_m, abs=0.05)


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_measured_profile_has_every_candidate(name: str) -> None:
    sizes = {row.img_size for row in load_profile("x86-avx512").rows if row.model == name}
    assert sizes >= {64, 128, 224}


def test_candidates_cover_the_range_of_sizes() -> None:
    params = [candidate.params_m for candidate in CANDIDATES.values()]
    assert min(params) < 0.5
    assert 20 < max(params) < 30


def test_left_out_models_are_not_candidates_and_have_a_reason() -> None:
    for name, reason in LEFT_OUT.items():
        assert timm.is_model(name)
        assert name not in CANDIDATES
        assert reason


SAMPLE = tuple(CANDIDATES)[::9]


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_exports_and_runs_in_both_runtimes(name: str, tmp_path: Path) -> None:
    """A sample only; tools/sweep_candidates.py exports all candidates."""
    backbone = deployable(build_student(name, 32, "random", seed=0))
    model = nn.Sequential(backbone, nn.Linear(feature_dim(backbone, 32), 3)).eval()
    path = export_onnx(model, tmp_path / "m.onnx", 32, labels=("a", "b", "c"), preprocess={"img_size": 32})
    xml = export_openvino(path, tmp_path / "m.xml")[0]
    assert path.stat().st_size / 1e6 == pytest.approx(CANDIDATES[name].size_mb(3), rel=0.15)
    largest = max(path.stat().st_size, xml.stat().st_size + xml.with_suffix(".bin").stat().st_size)
    assert largest / 1e6 == pytest.approx(CANDIDATES[name].largest_mb(3), rel=0.15)
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(image)).numpy()
    for runner in (OrtRunner(path), OpenVinoRunner(xml)):
        with runner:
            np.testing.assert_allclose(runner.run(image), expected, rtol=1e-3, atol=1e-3 * np.ptp(expected))


def test_size_includes_the_head() -> None:
    candidate = Candidate("x", "cnn", params_m=1.0, feature_dim=999, macs_m=1.0)
    assert candidate.total_params_m(10) == pytest.approx(1.01)
    assert candidate.size_mb(1000) - candidate.size_mb(0) == pytest.approx(4.0)
    assert candidate.size_mb(10, "fp32") > candidate.size_mb(10, "fp16") > candidate.size_mb(10, "int8") > 1


@pytest.mark.parametrize("name", CANDIDATES)
def test_both_formats_of_every_candidate_are_measured(name: str) -> None:
    candidate = CANDIDATES[name]
    onnx, openvino = exported_bytes()[name]["fp32"], exported_openvino_bytes()[name]
    assert candidate.largest_mb(10) == max(onnx, openvino) / 1e6
    assert candidate.largest_mb(10) >= candidate.size_mb(10, "fp32")
    assert candidate.largest_mb(1010) - candidate.largest_mb(10) == pytest.approx(4e-3 * (candidate.feature_dim + 1))
    # The formula for other networks, applied to this one.
    unlisted = replace(candidate, name="unlisted")
    assert unlisted.size_source == "computed"
    assert 0.92 < unlisted.largest_mb(10) / candidate.largest_mb(10) < 1.2


def test_choice_does_not_import_torch() -> None:
    code = (
        "import sys, tcs_edge.students.choice, tcs_edge.specs.profile as p;"
        "p.load_profile('raspberrypi4');"
        "sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

from __future__ import annotations

import subprocess
import sys
from dataclasses import astuple

import pytest
import timm

from tcs_edge.errors import UnknownName
from tcs_edge.specs.profile import load_profile
from tcs_edge.students.build import candidate_from_model
from tcs_edge.students.candidates import CANDIDATES, Candidate, find_candidate


def test_the_registry_is_keyed_by_name_and_complete() -> None:
    assert 24 <= len(CANDIDATES) <= 40
    for name, candidate in CANDIDATES.items():
        assert candidate.name == name
        assert None not in astuple(candidate)
    assert {candidate.kind for candidate in CANDIDATES.values()} == {"cnn", "hybrid", "transformer"}


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_pretrained_weights_exist_under_this_licence(name: str) -> None:
    candidate = CANDIDATES[name]
    cfg = timm.get_pretrained_cfg(candidate.weights)
    assert cfg.hf_hub_id == f"timm/{candidate.weights}"
    assert cfg.license == candidate.licence


@pytest.mark.slow
@pytest.mark.parametrize("name", CANDIDATES)
def test_the_facts_are_those_of_the_model(name: str) -> None:
    said, real = CANDIDATES[name], candidate_from_model(name)
    assert said.params_m == pytest.approx(real.params_m, abs=1e-6)
    assert said.feature_dim == real.feature_dim
    assert said.macs_m == pytest.approx(real.macs_m, abs=0.05)


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_measured_profile_holds_every_candidate(name: str) -> None:
    sizes = {row.img_size for row in load_profile("x86-avx512").rows if row.model == name}
    assert sizes >= {32, 64, 96, 128, 160, 192, 224}


def test_size_counts_the_head() -> None:
    candidate = Candidate("x", "cnn", params_m=1.0, feature_dim=999, macs_m=1.0)
    assert candidate.total_params_m(10) == pytest.approx(1.01)
    assert candidate.size_mb(1000) - candidate.size_mb(0) == pytest.approx(4.0)


def test_an_unknown_student_shows_near_matches() -> None:
    assert find_candidate("lcnet_050").feature_dim == 1280
    with pytest.raises(UnknownName, match="lcnet_050"):
        find_candidate("lcnet_05")


def test_choosing_needs_no_torch() -> None:
    code = (
        "import sys, tcs_edge.students.choice, tcs_edge.specs.profile as p;"
        "p.load_profile('raspberrypi4');"
        "sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

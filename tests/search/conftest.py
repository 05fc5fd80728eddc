from __future__ import annotations

from pathlib import Path

import pytest

from tcs_edge.models.candidates import CANDIDATES, Candidate

NAMES = ("lcnet_050", "mobilenetv3_small_050", "mobilenetv4_conv_small_050")


@pytest.fixture(scope="session")
def candidates() -> tuple[Candidate, ...]:
    """Three of the smallest students."""
    return tuple(CANDIDATES[name] for name in NAMES)


@pytest.fixture(scope="session")
def weights_folder(candidates: tuple[Candidate, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of two of them, one file named by the student and one with timm's tag; none of the third."""
    from safetensors.torch import save_file

    from tcs_edge.students.build import build_student

    folder = tmp_path_factory.mktemp("weights")
    for candidate, stem in zip(candidates, (NAMES[0], f"{NAMES[1]}_lamb_in1k"), strict=False):
        state = build_student(candidate.name, 32, "random", seed=1).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, folder / f"{stem}.safetensors")
    return folder

"""Many runs in one process by the Python API: handles, threads and temporary files do not grow, nor does the memory."""

from __future__ import annotations

import shutil
import sys

import pytest

from tests.benchmark_modules import benchmark

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def soak():
    with benchmark("reliability_soak") as module:
        yield module


def figures(**late: float) -> dict:
    early = {"memory_mb": 900.0, "handles": 12, "threads": 4, "temporary_files": 0}
    return {"early": early, "late": early | late}


def test_growth_is_found(soak):
    assert soak.steady(figures())
    assert soak.steady(figures(memory_mb=919.0, handles=11))
    for name, value in {"memory_mb": 921.0, "handles": 13, "threads": 5, "temporary_files": 1}.items():
        assert not soak.steady(figures(**{name: value})), name


@pytest.mark.slow
def test_twelve_runs_in_one_process_leave_nothing(soak, photos, teacher_file, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(teacher_file, tmp_path / "teacher.safetensors")
    verdict, text, _ = soak.soak(tmp_path, 12, warm=4)
    assert verdict == "same", text
    left = {path.name.partition("_")[0] for path in (tmp_path / "soak-tmp").iterdir()}
    assert left <= {"torchinductor"}  # torch makes one folder there, once

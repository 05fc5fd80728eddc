from __future__ import annotations

from pathlib import Path

import pytest

from tcs_edge.errors import MissingError
from tcs_edge.specs.locate import shipped_files, shipped_folder


def test_targets_of_a_checkout_are_beside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "tcs_edge"
    (tmp_path / "targets").mkdir()
    package.mkdir()
    assert shipped_folder("targets", package) == tmp_path / "targets"


def test_profiles_of_a_wheel_are_inside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "tcs_edge"
    (package / "profiles").mkdir(parents=True)
    (tmp_path / "profiles").mkdir()
    assert shipped_folder("profiles", package) == package / "profiles"


def test_an_incomplete_installation_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="without its profiles"):
        shipped_folder("profiles", tmp_path / "tcs_edge")


def test_targets_and_profiles_are_found() -> None:
    assert "raspberrypi4" in shipped_files("targets")
    assert "x86-avx512" in shipped_files("profiles")

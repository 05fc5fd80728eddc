"""A finished bundle, made once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bundle.made import bundle_of


@pytest.fixture(scope="session")
def bundled(cli, finished, tmp_path_factory) -> Path:
    """Bundle of the finished run for ONNX Runtime. Read only."""
    return bundle_of(finished, cli, tmp_path_factory)


@pytest.fixture
def own_bundle(bundled, tmp_path) -> Path:
    """Copy of the bundle that a test may change."""
    return shutil.copytree(bundled, tmp_path / "own")


@pytest.fixture
def sign_again() -> Callable[[Path], None]:
    """Write new hashes for changed files, and for further ones."""

    def write(folder: Path) -> None:
        paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "SHA256SUMS")
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
        (folder / "SHA256SUMS").write_text("".join(lines))

    return write

"""Tests of reading tcs-edge.toml and pyproject.toml, and of messages on wrong keys."""

from __future__ import annotations

import pytest

from tcs_edge.errors import SpecError
from tcs_edge.project.read import find_limits, find_options


def test_folder_without_file_has_no_options(tmp_path):
    assert find_options(tmp_path) is None
    (tmp_path / "tcs-edge.toml").mkdir()
    assert find_options(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tcs-edge.toml", "[gait]\nmax_size_mb = 1\n", "Did you mean gate"),
        ("tcs-edge.toml", "epoch = 3\n", "Did you mean epochs"),
        ("tcs-edge.toml", "epochs = 'many'\n[gate]\nmax_size_mb = 1\n", "epochs"),
        ("tcs-edge.toml", "[tcs]\ndimms = 3\n", "Did you mean dims"),
        ("pyproject.toml", "[tool.tcs-edge.gaet]\nmax_size_mb = 1\n", "Did you mean gate"),
        ("pyproject.toml", "[tool.tcs-edge.gate]\nmax_sise_mb = 1\n", "Did you mean max_size_mb"),
        ("pyproject.toml", "[tool]\ntcs-edge = 3\n", "tcs-edge"),
    ],
)
def test_misspelled_key_raises(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        find_limits(tmp_path, {"max_size_mb": 5.0})
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "tool = 3\n", "[tool]\nother = 1\n"])
def test_pyproject_without_tcs_edge_has_no_limits(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    limits, origin = find_limits(tmp_path, {})
    assert not limits.any
    assert origin is None

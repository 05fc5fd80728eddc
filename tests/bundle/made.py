"""A bundle of a run, for fixtures."""

from __future__ import annotations

from pathlib import Path


def bundle_of(run: Path, cli, tmp_path_factory) -> Path:
    """Return a new bundle of `run`."""
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    result = cli("bundle", run, "--out", out)
    assert result.exit_code == 0, result.stderr
    return out

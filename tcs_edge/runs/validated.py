"""Check the verdict and the files of a finished run."""

from __future__ import annotations

from pathlib import Path

from tcs_edge.errors import ParityFailed
from tcs_edge.runs.folder import RunFolder, find_run
from tcs_edge.runs.manifest import advice_on, read_manifest, verify_files
from tcs_edge.runs.schema import Manifest


def validated_run(run: Path) -> tuple[RunFolder, Manifest]:
    """Return folder and manifest of a run that passed validation and did not change after it.

    Raises:
        ParityFailed: the run failed validation, or a file is missing, changed or new.
        DataError: not a run.
    """
    folder = find_run(run)
    manifest = read_manifest(folder.root)
    if manifest.verdict != "pass":
        raise ParityFailed(f"{run} failed validation, see {folder.validation}. Run compress again.")
    if problems := verify_files(folder.root, manifest):
        listed = ", ".join(f"{problem.path} ({problem.problem})" for problem in problems[:3])
        raise ParityFailed(f"{run} changed after validation: {listed}. {advice_on(problems)}")
    return folder, manifest

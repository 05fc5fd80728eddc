"""Location of the shipped targets and profiles: beside the code in a wheel, one level up in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tcs_edge.errors import MissingError

Kind = Literal["targets", "profiles"]

PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(kind: Kind, package: Path = PACKAGE) -> Path:
    """Find the folder with the shipped `kind`; `package` is the folder with the code of tcs_edge.

    Raises:
        MissingError: the installation is incomplete.
    """
    for folder in (package / kind, package.parent / kind):
        if folder.is_dir():
            return folder
    raise MissingError(f"tcs-edge is installed without its {kind}. Reinstall it: pip install tcs-edge.")


def shipped_files(kind: Kind) -> dict[str, Path]:
    """Return the paths of all shipped targets (.toml) or profiles (.json) by name (file stem)."""
    suffix = {"targets": ".toml", "profiles": ".json"}[kind]
    return {path.stem: path for path in sorted(shipped_folder(kind).glob(f"*{suffix}"))}

"""Where the shipped targets and profiles lie: beside the code in a wheel, one level up in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tcs_edge.errors import MissingError

Kind = Literal["targets", "profiles"]

PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(kind: Kind, package: Path = PACKAGE) -> Path:
    """The folder with the shipped `kind`; `package` is the folder that holds tcs_edge's code.

    Raises:
        MissingError: the installation is incomplete.
    """
    for folder in (package / kind, package.parent / kind):
        if folder.is_dir():
            return folder
    raise MissingError(f"tcs-edge is installed without its {kind}. Reinstall it: pip install tcs-edge.")


def shipped_files(kind: Kind) -> dict[str, Path]:
    """Name (file stem) to path of every shipped target (.toml) or profile (.json)."""
    suffix = {"targets": ".toml", "profiles": ".json"}[kind]
    return {path.stem: path for path in sorted(shipped_folder(kind).glob(f"*{suffix}"))}

"""Location of a teacher's weights: a local file, the hub cache, or the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tcs_edge.errors import MissingError
from tcs_edge.models.hub import WantedWeights, fetch, timm_hub_file
from tcs_edge.models.safetensors_file import check_safetensors
from tcs_edge.teachers.registry import TeacherSpec

FLAG = "--teacher-weights"


@dataclass(frozen=True)
class WeightsFile:
    """A local safetensors file; `source` is its origin, without local folders."""

    path: Path
    source: str


def locate_weights(name: str, spec: TeacherSpec, weights: Path | None) -> WeightsFile:
    """Find a teacher's weights: the given file, else the hub cache, else a download from the hub.

    Raises:
        UsageError: the given file is a pickle or a folder.
        DataError: the given file is not a safetensors file.
        MissingError: the file does not exist, or the hub cannot be reached; the message names the needed file.
    """
    if weights is not None:
        check_safetensors(weights, FLAG)
        return WeightsFile(weights, f"file {weights.name}")
    wanted = wanted_teacher(name, spec)
    path = fetch(wanted.file, wanted.what, wanted.flag)
    check_safetensors(path, FLAG)
    return WeightsFile(path, f"hub {wanted.file.repo}/{wanted.file.filename}")


def wanted_teacher(name: str, spec: TeacherSpec) -> WantedWeights:
    """Return the hub file with a teacher's weights.

    Raises:
        MissingError: no hub has them as safetensors.
    """
    remote = timm_hub_file(spec.timm_name)
    if remote is None:
        raise MissingError(
            f"the weights of teacher {name!r} ({spec.timm_name}) are on no hub as safetensors. "
            "Convert the released file, and pass --teacher-weights PATH."
        )
    return WantedWeights(remote, f"teacher {name!r}", FLAG)

"""Where a teacher's weights are: a local file, the hub cache, or the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tcs_edge.errors import MissingError
from tcs_edge.models.hub import fetch, timm_hub_file
from tcs_edge.models.safetensors_file import check_safetensors
from tcs_edge.teachers.registry import TeacherSpec

FLAG = "--teacher-weights"


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file on this disk; `source` says where it came from, without local folders."""

    path: Path
    source: str


def locate_weights(name: str, spec: TeacherSpec, weights: Path | None) -> WeightsFile:
    """Find a teacher's weights: the given file, else the hub cache, else a download from the hub.

    Raises:
        UsageError: the given file is a pickle or no file.
        DataError: the given file is no safetensors file.
        MissingError: the file is not there, or the hub cannot be reached; the message says what to bring.
    """
    if weights is not None:
        check_safetensors(weights, FLAG)
        return WeightsFile(weights, f"file {weights.name}")
    remote = timm_hub_file(spec.timm_name)
    if remote is None:
        raise MissingError(
            f"no hub holds the weights of teacher {name!r} ({spec.timm_name}) as safetensors. "
            "Convert the released file and pass --teacher-weights PATH."
        )
    path = fetch(remote, f"teacher {name!r}", FLAG)
    check_safetensors(path, FLAG)
    return WeightsFile(path, f"hub {remote.repo}/{remote.filename}")

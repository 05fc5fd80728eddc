"""Read and write the baseline: an earlier run, a manifest, or a small file in the repository."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from tcs_edge.errors import DataError, RequirementMissed, UsageError
from tcs_edge.gate.measures import PER_RUNTIME, QUANTITIES
from tcs_edge.gate.subject import Subject, load_subject, manifest_subject, parse_document, read_document
from tcs_edge.runs.folder import MANIFEST
from tcs_edge.specs.strict import Spec, format_error
from tcs_edge.utils.files import write_json
from tcs_edge.utils.lock import owned_file

KIND: Literal["tcs-edge gate baseline"] = "tcs-edge gate baseline"
GIT = "git:"
GIT_SECONDS = 60


class BaselineFile(Spec):
    """Document that `--update-baseline` writes; the keys of `values` are values of `Measure.key`."""

    schema_version: Literal[1] = 1
    kind: Literal["tcs-edge gate baseline"] = KIND
    student: str | None = None
    target: str | None = None
    precisions: dict[str, str]
    images: str | None = None
    values: dict[str, Annotated[float, Field(ge=-1, le=1e12, strict=True)]]

    @field_validator("values")
    @classmethod
    def _in_range(cls, values: dict[str, float]) -> dict[str, float]:
        for key, value in values.items():
            quantity = QUANTITIES.get(key.partition("/")[0])
            if quantity is None:
                raise ValueError(f"unknown number {key[:60]!r}")
            if value < 0 and quantity is not QUANTITIES["drop"]:
                raise ValueError(f"{key[:60]} is negative")
            if quantity.unit == "share" and value > 1:
                raise ValueError(f"{key[:60]} must be a fraction of 1")
        return values


@dataclass(frozen=True)
class Baseline:
    """Numbers to compare with; `remark` is the reason for left-out numbers."""

    name: str
    values: Mapping[str, float]
    target: str | None = None
    precisions: Mapping[str, str] = field(default_factory=dict)
    images: str | None = None
    remark: str = ""


def load_baseline(place: str) -> Baseline:
    """Read a baseline from a run folder, manifest.json, baseline file, model file, or JSON at git:REF:path.

    Raises:
        UsageError: `place` is none of these, or its exports changed after validation.
    """
    try:
        if place.startswith(GIT):
            return _from_document(_git_document(place), place)
        path = Path(place)
        if path.suffix == ".json" and path.name != MANIFEST:
            return _from_document(read_document(path), place)
        return _from_subject(load_subject(path))
    except DataError as error:
        raise UsageError(f"baseline: {error}") from None


def write_baseline(path: Path, subject: Subject) -> None:
    """Write the numbers of `subject` to a small file that can be committed.

    Raises:
        RequirementMissed: the exports failed validation or changed after it.
        InUse: another process writes the file.
    """
    broken = _broken(subject)
    if broken:
        raise RequirementMissed(f"{subject.name} cannot be a baseline: {broken}. {path} was not written.")
    document = BaselineFile(
        student=subject.student,
        target=subject.target,
        precisions=dict(subject.precisions),
        images=subject.images,
        values=_values(subject),
    )
    with owned_file(path):
        write_json(path, document.model_dump(mode="json", exclude_none=True))


def comparable(subject: Subject, baseline: Baseline, allow_other_target: bool) -> Baseline:
    """Return the part of `baseline` that is comparable with `subject`.

    Numbers from other test images are left out, because the images affect them as well as the model.

    Raises:
        UsageError: another target or precision, and `allow_other_target` is False.
    """
    difference = _difference(subject, baseline)
    if difference and not allow_other_target:
        raise UsageError(f"the baseline {baseline.name} has {difference}. Pass --allow-other-target to compare anyway.")
    if subject.images == baseline.images:
        return baseline
    values = {key: value for key, value in baseline.values.items() if key.partition("/")[0] not in PER_RUNTIME}
    return replace(baseline, values=values, remark="the baseline was tested on other images")


def _difference(subject: Subject, baseline: Baseline) -> str:
    if subject.target != baseline.target:
        return f"another target: {baseline.target or 'unknown'} instead of {subject.target or 'unknown'}"
    shared = sorted(set(subject.precisions) & set(baseline.precisions))
    if not shared:
        return "no runtime in common with the model, so precisions cannot be compared"
    for runtime in shared:
        ours, theirs = subject.precisions[runtime], baseline.precisions[runtime]
        if ours != theirs:
            return f"another precision of {runtime}: {theirs} instead of {ours}"
    return ""


def _from_subject(subject: Subject) -> Baseline:
    if broken := _broken(subject):
        raise DataError(f"{subject.name} cannot be used: {broken}. Pass a run with the verdict pass.")
    return Baseline(subject.name, _values(subject), subject.target, subject.precisions, subject.images)


def _broken(subject: Subject) -> str:
    return next((requirement.detail for requirement in subject.requirements if not requirement.kept), "")


def _values(subject: Subject) -> dict[str, float]:
    return {measure.key: measure.value for measure in subject.measures if measure.value is not None}


def _from_document(document: Mapping[str, Any], name: str) -> Baseline:
    if document.get("kind") != KIND:
        return _from_subject(manifest_subject(document, name))
    try:
        stored = BaselineFile.model_validate(document)
    except ValidationError as error:
        advice = "Write it again with --update-baseline."
        raise DataError(f"{name}: {format_error(error, BaselineFile, advice)}") from None
    return Baseline(name, stored.values, stored.target, stored.precisions, stored.images)


def _git_document(place: str) -> Mapping[str, Any]:
    """Read the JSON at git:REF:path; a path without the suffix .json is a run folder."""
    ref, colon, path = place.removeprefix(GIT).partition(":")
    if not (ref and colon and path) or ref.startswith("-"):
        raise UsageError(f"--baseline {place} is not git:REF:path, such as git:origin/main:gate.json.")
    path = path if path.endswith(".json") else f"{path.rstrip('/')}/{MANIFEST}"
    return parse_document(_git_blob(f"{ref}:{path}"), f"{GIT}{ref}:{path}")


def _git_blob(name: str) -> bytes:
    command = ["git", "cat-file", "blob", name]
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=GIT_SECONDS, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"git could not read the baseline {name}: {error}. Install git, or pass a file.") from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no such object"]
        if owned := re.search("dubious ownership in repository at '(.*)'", reason[0]):
            raise UsageError(
                f"git refuses to read the baseline {name}, because another user owns this repository. "
                f"Run: git config --global --add safe.directory {shlex.quote(owned[1])}"
            )
        raise UsageError(f"git has no baseline {name} ({reason[0]}). In CI, fetch that ref first.")
    return done.stdout

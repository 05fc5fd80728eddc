"""Facts about a teacher, with or without its model in memory."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.teachers.registry import forbids_commercial_use


@dataclass(frozen=True)
class TeacherFacts:
    """Facts about any teacher, also about one that only gave a file of features.

    Attributes:
        name: canonical name, with aliases resolved; the file name of the user's own teacher.
        dim: width d of the features.
        license: license of the weights, as timm states it; "unknown (FILE)" for the user's own teacher.
        weights_sha256: sha256 (hex) of the file.
        weights_source: origin of the file, without local folders.
    """

    name: str
    dim: int
    license: str
    weights_sha256: str
    weights_source: str

    @property
    def non_commercial(self) -> bool:
        """True if the license of the weights forbids commercial use."""
        return forbids_commercial_use(self.license)


@dataclass(frozen=True)
class TeacherInfo(TeacherFacts):
    """Description of a teacher whose weights need not be in memory.

    Attributes:
        timm_name: timm's model and tag; empty for a teacher that timm does not build.
        preprocess: preprocessing of its images.
        params_m: millions of parameters, without a classifier.
        weights_path: local path of the file.
    """

    timm_name: str
    preprocess: Preprocess
    params_m: float
    weights_path: Path

    def to_json(self) -> dict[str, Any]:
        """Return the facts for a manifest or a model card, without local folders."""
        names = [field.name for field in fields(TeacherInfo) if field.name != "weights_path"]
        return {name: getattr(self, name) for name in names} | {"preprocess": self.preprocess.to_json()}

    @property
    def fix(self) -> str:
        """Advice for features that cannot be used, as the end of a message."""
        return "The weights are damaged or belong to another model. Download them again, or choose another --teacher."

    @property
    def ingredients(self) -> dict[str, Any]:
        """Additional entries of the cache key: everything but weights and preprocessing that changes the features."""
        return {}


@dataclass(frozen=True)
class Teacher(TeacherInfo):
    """A loaded teacher. `module` is frozen, in eval mode: float32 (B, 3, S, S) -> float32 (B, d)."""

    module: nn.Module

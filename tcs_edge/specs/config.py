"""Options of a run: as given (`CompressConfig`), and resolved (`ResolvedConfig`).

`CompressConfig` comes from flags, a TOML file, or both (flags win); it may leave options open (None or "auto").
`ResolvedConfig` has no open option and is saved with the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import tomli_w
from pydantic import Field, model_validator

from tcs_edge.specs.artifacts import ALWAYS_EXPORTED, Format, Precision
from tcs_edge.specs.conflicts import conflicts
from tcs_edge.specs.methods import METHODS, MethodFacts, ResolvedTcs, SoftLabelSource
from tcs_edge.specs.options import (
    Augmentation,
    DataOptions,
    ExportOptions,
    ImgSize,
    LimitOptions,
    RunOptions,
    SearchName,
    StudentOptions,
    TeacherOptions,
    TrainingOptions,
)
from tcs_edge.specs.training import ResolvedTrain, TrainOptions
from tcs_edge.utils.reading import read_toml

OPEN = (None, "auto")


class CompressConfig(
    RunOptions, ExportOptions, LimitOptions, TrainingOptions, StudentOptions, TeacherOptions, DataOptions
):
    """Options of `tcs-edge compress` as given; `specs.options` documents the fields."""

    labels_optional: ClassVar[bool] = False  # True allows unlabeled images alone

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for problem in conflicts(self):
            raise ValueError(problem)
        return self

    @property
    def builtin(self) -> bool:
        """True for the built-in demo data."""
        return self.data is None

    @property
    def all_labeled(self) -> bool:
        """True if every training image has a label."""
        return self.unlabeled is None and not self.rest_unlabeled

    @property
    def img_sizes(self) -> tuple[int, ...]:
        """Input sizes of the student to try, in pixels; empty before the images are read."""
        return self.search_img_sizes or ((self.img_size,) if self.img_size else ())

    @property
    def method_facts(self) -> MethodFacts:
        """Facts about the training method."""
        return METHODS[self.method]

    @property
    def has_teacher(self) -> bool:
        """True if the method learns from a teacher."""
        return self.method_facts.targets != "none" and self.soft_labels_from != "student"

    @property
    def soft_labels_from(self) -> SoftLabelSource | None:
        """Linear probes that give the soft labels of the run; None for a method without soft labels."""
        if self.method_facts.targets == "coordinates":
            if self.tcs.soft_labels is False:
                return None
            return "pooled" if self.tcs.student_probe else "teacher"
        return {"kd": self.kd.soft_labels, "dkd": self.dkd.soft_labels}.get(self.method)

    @property
    def method_tables(self) -> set[str]:
        """Tables of the config that the run's method reads, such as "tcs"."""
        reads_tcs = self.method_facts.targets == "coordinates" or self.soft_labels_from == "pooled"
        return {self.method} | ({"tcs"} if reads_tcs else set())

    @property
    def starts_from_own_probe(self) -> bool:
        """True if the classifier starts as a linear probe on the pretrained student's own features."""
        return self.method == "probe" or (self.method == "ce" and self.ce.probe_start)

    def filled(self, defaults: Mapping[str, Any]) -> Self:
        """Return this config, validated again, with `defaults` for its open options."""
        return self.replaced(**{name: value for name, value in defaults.items() if getattr(self, name) in OPEN})


class ImagesConfig(CompressConfig):
    """Options of `check` and `label-next`: those of `compress` for the images, the teacher and the machine."""

    target: str = ""

    @property
    def names_teacher(self) -> bool:
        """True if the user named a teacher."""
        return any((self.teacher, self.teacher_weights, self.teacher_file))


class LabelNextConfig(ImagesConfig):
    """Options of `label-next`, which needs no labeled image."""

    labels_optional: ClassVar[bool] = True

    @property
    def builtin(self) -> bool:
        """False: `label-next` has no demo."""
        return False


class ResolvedConfig(CompressConfig):
    """Options of a run, all resolved. None means "no limit", "no such folder" or "the library's own"."""

    teacher: str
    student: str
    student_init: str
    img_size: ImgSize
    search: SearchName
    search_img_sizes: None = None
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=1e30)
    augment: Augmentation
    train: ResolvedTrain = ResolvedTrain()
    tcs: ResolvedTcs
    precision: tuple[Precision, ...]
    format: tuple[Format, ...] = ALWAYS_EXPORTED
    threads: int = Field(ge=1)
    workers: int = Field(ge=0)

    @model_validator(mode="after")
    def _is_resolved(self) -> Self:
        if open_names := [name for name in ("student", "student_init") if getattr(self, name) in OPEN]:
            raise ValueError(f"{', '.join(open_names)}: not resolved.")
        return self


def load_config(path: Path) -> dict[str, Any]:
    """Read the options of a TOML file, checked as TOML only.

    Raises:
        SpecError: as `utils.reading.read_toml`.
    """
    return read_toml(path, missing=f"no such config file: {path}. Write one with `tcs-edge init`.")


def with_flags(document: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config file's options, overridden by `flags`; flags of the training loop go into `[train]`."""
    training = {name: value for name, value in flags.items() if name in TrainOptions.model_fields}
    merged = {**document, **{name: value for name, value in flags.items() if name not in training}}
    table = document.get("train", {})
    # The schema rejects anything but a table.
    return merged | {"train": table | training} if training and isinstance(table, dict) else merged


def config_toml(config: CompressConfig) -> str:
    """Return the config as TOML for `load_config`, without its open options."""
    document = config.model_dump(mode="json", exclude_none=True)
    return tomli_w.dumps(document)

"""Options of a run: as given (`CompressConfig`), and resolved (`ResolvedConfig`).

`CompressConfig` comes from flags, a TOML file, or both (flags win); it may leave options open (None or "auto").
`ResolvedConfig` has no open option and is saved with the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import Field, model_validator

from tcs_edge.specs.artifacts import ALWAYS_EXPORTED, Format, Precision
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
from tcs_edge.specs.training import ResolvedAmp, ResolvedTrain, TrainOptions
from tcs_edge.utils.reading import read_toml

SEARCHED_SHARES = (1, 3 / 4, 1 / 2)  # input sizes to try, as shares of the images' own size
OPEN = (None, "auto")
BATCH_OF_RATES = 64  # batch size that the default learning rates were measured with
# The losses that arXiv 2412.09388 states. The weight of the hashing loss is that of arXiv 2011.01424.
PAPER = {"soft_labels": False, "mimic": "lsh", "mimic_weight": 5.0, "mimic_warmup": 0.0, "probe_start": False}


class CompressConfig(
    RunOptions, ExportOptions, LimitOptions, TrainingOptions, StudentOptions, TeacherOptions, DataOptions
):
    """Options of `tcs-edge compress` as given; `specs.options` documents the fields."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for problem in _problems(self):
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

    def with_data_defaults(self, typical_px: int) -> Self:
        """Return this config with the defaults that depend on the images.

        Args:
            typical_px: median shorter side of the training images, in pixels.
        """
        defaults = _demo_defaults(self) if self.builtin else _folder_defaults(typical_px, self)
        return self.filled(defaults | ({"teacher": self.teacher_file.name} if self.teacher_file else {}))

    def filled(self, defaults: Mapping[str, Any]) -> Self:
        """Return this config, validated again, with `defaults` for its open options."""
        return self.replaced(**{name: value for name, value in defaults.items() if getattr(self, name) in OPEN})


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


@dataclass(frozen=True)
class Machine:
    """Options that depend on the machine of a run: threads, decoding processes, mixed precision."""

    threads: int
    workers: int
    amp: ResolvedAmp


@dataclass(frozen=True)
class ChosenStudent:
    """Student of a run.

    Attributes:
        kind: "cnn", "hybrid", "transformer" or "unknown", as in `Candidate`.
        img_size: side of its input in pixels.
    """

    name: str
    kind: str
    img_size: int


def resolve(
    asked: CompressConfig,
    student: ChosenStudent,
    search: SearchName,
    precision: tuple[Precision, ...],
    machine: Machine,
    train_images: int | None = None,
) -> ResolvedConfig:
    """Return the resolved options of a run.

    Args:
        asked: options with the defaults of the data.
        search: the search that ranked the student.
        train_images: number of training images, for the default learning rate; None takes that of a long run.
    """
    decided = {
        "student": student.name,
        "img_size": student.img_size,
        "search": search,
        "search_img_sizes": None,
        "precision": precision,
        "threads": machine.threads,
        "workers": machine.workers if asked.workers is None else asked.workers,
        "train": ResolvedTrain(**asked.train.explicit() | {"amp": machine.amp}),
        "lr": asked.lr or default_lr(asked, student.kind, train_images),
        "tcs": _default_tcs(asked, student.kind),
    }
    return ResolvedConfig(**asked.explicit() | decided)


def default_lr(asked: CompressConfig, kind: str, train_images: int | None) -> float:
    """Return the default peak learning rate of a run, rounded to two digits.

    Runs of few steps need a higher rate: it grows with 1 / sqrt(steps), from `LONG_STEPS` down, and at most by a
    factor. It grows with the square root of the batch size, as suits AdamW (arXiv 2205.10287). Transformers keep
    their rate in short runs (docs/explanation/decisions/0009 and 0018).
    """
    scratch = asked.student_init == "random"
    if kind == "transformer":
        rate, long_steps, most = (3e-4 if scratch else 1e-4), 1, 1.0
    else:
        rate, long_steps, most = (2e-3, 2000, 4.0) if scratch else (1e-3, 240, 2.0)
    steps = asked.epochs * math.ceil(train_images / asked.batch_size) if train_images and asked.epochs else long_steps
    factor = min(most, max(1.0, math.sqrt(long_steps / steps)))
    return float(f"{rate * factor * math.sqrt(asked.batch_size / BATCH_OF_RATES):.2g}")


def _default_tcs(asked: CompressConfig, kind: str) -> ResolvedTcs:
    """Fill in the losses for a kind of student."""
    # Measured for CNNs, transformers and pretrained weights (docs/explanation/decisions/0008 and 0012).
    transformer, scratch = kind == "transformer", asked.student_init == "random"
    warmup = 0.2 if scratch and not transformer else 0.0
    tcs = {"soft_labels": True, "mimic": "cosine", "mimic_weight": 0.1, "mimic_warmup": warmup, "probe_start": scratch}
    tcs |= PAPER if asked.method == "tcs-paper" else {}
    given = {name: value for name, value in asked.tcs.explicit().items() if value is not None}
    return ResolvedTcs(**tcs | given)


def _problems(config: CompressConfig) -> list[str]:
    """Messages on options that do not go together, each with its fix."""
    facts, search = METHODS[config.method], config.search
    problems = []
    if config.search_img_sizes and search != "halving":
        problems.append(f"search_img_sizes: search {search} uses one input size. Pass --search halving, or --img-size.")
    if facts.targets == "none" and search in ("alignment", "halving"):
        problems.append(f"method: {config.method} has no teacher, but search {search} needs one. Pass --search table.")
    if config.online_teacher and not facts.online:
        able = ", ".join(name for name, known in METHODS.items() if known.online)
        problems.append(f"online_teacher: not available with method {config.method}. Methods that have it: {able}.")
    problems += _own_probe_problems(config)
    problems += _teacher_problems(config)
    if config.unlabeled and config.data is None:
        problems.append("unlabeled: the built-in digits all have labels. Pass --data too.")
    if config.rest_unlabeled and not config.shots:
        problems.append("rest_unlabeled: every image has a label. Pass --shots too.")
    if not config.all_labeled and not facts.label_free:
        able = ", ".join(name for name, known in METHODS.items() if known.label_free)
        name = "unlabeled" if config.unlabeled else "rest_unlabeled"
        problems.append(f"{name}: method {config.method} needs labels. Methods that do not: {able}.")
    if config.train.label_smoothing and not facts.reads_labels:
        problems.append(f"train: method {config.method} uses no labels. Leave label_smoothing out.")
    return problems


def _own_probe_problems(config: CompressConfig) -> list[str]:
    """Messages on methods that need the features of a pretrained student."""
    own = config.starts_from_own_probe or config.soft_labels_from == "student"
    if own and config.student_init == "random":
        what = f"method: {config.method} with a probe on the student's features needs pretrained weights."
        return [f"{what} Leave --student-init random out."]
    if config.online_teacher and config.method in ("kd", "dkd") and config.soft_labels_from != "teacher":
        return ["online_teacher: soft labels of a student's probe belong to plain images. Leave online_teacher out."]
    return []


def _teacher_problems(config: CompressConfig) -> list[str]:
    """Messages on options of a teacher from the user's own file."""
    of_onnx = [name for name in ("mean", "std", "layout", "output") if getattr(config, f"teacher_{name}") is not None]
    if of_onnx and config.teacher_onnx is None:
        return [f"teacher_{of_onnx[0]}: describes an ONNX file. Pass --teacher-onnx too."]
    if (config.teacher_mean is None) != (config.teacher_std is None):
        return ["teacher_mean, teacher_std: one of the two is missing. Pass both."]
    if config.teacher_file is None:
        return []
    if config.teacher_onnx and config.teacher_features:
        return ["teacher_onnx, teacher_features: two teachers. Pass one of them."]
    option = "teacher_onnx" if config.teacher_onnx else "teacher_features"
    flag = f"--{option.replace('_', '-')}"
    problems = []
    if config.teacher not in (None, config.teacher_file.name):
        problems.append(f"teacher: {flag} is the teacher already. Leave --teacher out.")
    if config.teacher_weights:
        problems.append(f"teacher_weights: {flag} needs no other weights. Leave --teacher-weights out.")
    if config.teacher_features and config.teacher_img_size:
        problems.append("teacher_img_size: the features are computed already. Leave --teacher-img-size out.")
    if config.online_teacher:
        problems.append(f"online_teacher: {flag} has features of plain images only. Leave --online-teacher out.")
    if config.method_facts.targets == "maps":
        others = ", ".join(name for name, known in METHODS.items() if known.targets not in ("maps", "none"))
        problems.append(
            f"method: {config.method} needs feature maps, but {flag} gives one vector per image. "
            f"Methods for it: {others}."
        )
    return problems


def _demo_defaults(config: CompressConfig) -> dict[str, Any]:
    """Defaults for the digits (tiny, without mirror symmetry): a small student trains in about a minute."""
    # The limit keeps the demo's student small on every board; it does not apply to a student that the user named.
    limits = {"max_params_m": 0.9} if config.student == "auto" else {}
    return limits | {
        "teacher": "digits", "student_init": "random", "img_size": 32, "epochs": 25, "lr": 3e-3, "augment": "crop",
    }  # fmt: skip


def _folder_defaults(typical_px: int, config: CompressConfig) -> dict[str, Any]:
    """Defaults for a folder of images: an input size up to the images' own, at most 224 px.

    Halving also tries smaller inputs, unless the user gave a size.
    """
    from_scratch = config.student_init == "random"
    img_size = min(224, _strided(typical_px))
    several = config.search == "halving" and config.img_size is None
    smaller = {"search_img_sizes": tuple(dict.fromkeys(_strided(share * img_size) for share in SEARCHED_SHARES))}
    return {
        "teacher": "dinov2", "student_init": "pretrained", "img_size": img_size,
        "epochs": 60 if from_scratch else 30, "augment": "crop-flip",
    } | (smaller if several else {})  # fmt: skip


def _strided(pixels: float) -> int:
    """Return the next multiple of 32 (the stride of most students), at least 32."""
    return max(32, math.ceil(pixels / 32) * 32)


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

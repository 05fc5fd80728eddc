"""Defaults of a run that depend on its images, its student and its machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tcs_edge.specs.artifacts import Precision
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.specs.methods import PAPER, ResolvedTcs
from tcs_edge.specs.options import SearchName
from tcs_edge.specs.training import ResolvedAmp, ResolvedTrain

SEARCHED_SHARES = (1, 3 / 4, 1 / 2)  # input sizes to try, as shares of the images' own size
BATCH_OF_RATES = 64  # batch size that the default learning rates were measured with


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


def with_data_defaults(asked: CompressConfig, typical_px: int) -> CompressConfig:
    """Return the options with the defaults that depend on the images.

    Args:
        typical_px: median shorter side of the training images, in pixels.
    """
    defaults = _demo_defaults(asked) if asked.builtin else _folder_defaults(typical_px, asked)
    return asked.filled(defaults | ({"teacher": asked.teacher_file.name} if asked.teacher_file else {}))


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
        "tcs": _default_tcs(asked),
    }
    return ResolvedConfig(**asked.explicit() | decided)


def default_lr(asked: CompressConfig, kind: str, train_images: int | None) -> float:
    """Return the default peak learning rate of a run, rounded to two digits.

    Short runs need a higher rate: below a number of steps it grows with 1 / sqrt(steps), at most by a factor. It also
    grows with the square root of the batch size, as suits AdamW (arXiv 2205.10287). Transformers keep their rate in
    short runs (docs/explanation/decisions/0009 and 0018).
    """
    scratch = asked.student_init == "random"
    if kind == "transformer":
        rate, long_steps, most = (3e-4 if scratch else 1e-4), 1, 1.0
    else:
        rate, long_steps, most = (2e-3, 2000, 4.0) if scratch else (1e-3, 1000, 2.0)
    steps = asked.epochs * math.ceil(train_images / asked.batch_size) if train_images and asked.epochs else long_steps
    factor = min(most, max(1.0, math.sqrt(long_steps / steps)))
    return float(f"{rate * factor * math.sqrt(asked.batch_size / BATCH_OF_RATES):.2g}")


def _default_tcs(asked: CompressConfig) -> ResolvedTcs:
    """Fill in the losses."""
    # Measured with pretrained weights (docs/explanation/decisions/0012).
    start = asked.student_init == "random" and asked.tcs.head == "coordinates"
    tcs = {"soft_labels": True, "mimic": "cosine", "mimic_weight": 0.1, "probe_start": start}
    tcs |= PAPER if asked.method == "tcs-paper" else {}
    given = {name: value for name, value in asked.tcs.explicit().items() if value is not None}
    return ResolvedTcs(**tcs | given)


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

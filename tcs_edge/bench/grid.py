"""Runs of a comparison, one per student, arm, number of shots and seed, and their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tcs_edge.errors import UnknownName
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.specs.methods import METHODS, PAPER
from tcs_edge.specs.strict import validated

SCHEMA_VERSION = 4
DIVERGED = "diverged"  # key of the message, in place of the result of a run

# Changes of each arm to the shared options; "-loop" keeps the teacher in memory. "-pooled" uses the soft labels of
# TCS, "kd-own" those of a probe on the student's own features, without a teacher.
ARMS: dict[str, dict[str, Any]] = {
    f"{name}{ending}": {"method": name} | ({"online_teacher": True} if ending else {})
    for name, facts in METHODS.items()
    for ending in ("", "-loop")
    if facts.online or not ending
} | {
    "tcs-paper": {"method": "tcs-paper", "tcs": PAPER},
    "ce-smooth": {"method": "ce", "train": {"label_smoothing": 0.1}},
    "ce-mixup": {"method": "ce", "train": {"mixup": 0.2}},
    "lp-ft": {"method": "ce", "ce": {"probe_start": True}},
    "kd-pooled": {"method": "kd", "kd": {"soft_labels": "pooled"}},
    "kd-own": {"method": "kd", "kd": {"soft_labels": "student"}},
    "dkd-pooled": {"method": "dkd", "dkd": {"soft_labels": "pooled"}},
}
# Each removes one part of TCS. A gain that remains without the part has another cause.
ABLATIONS: dict[str, dict[str, Any]] = {
    "random-axes": {"ablation": "random-axes"},
    "shuffled-targets": {"ablation": "shuffled-targets"},
    "top-variance": {"ablation": "top-variance"},
    "linear-head": {"head": "linear", "probe_start": False},
    "no-mimicking": {"mimic": "none"},
    "no-soft-labels": {"soft_labels": False},
    "no-probe-start": {"probe_start": False},
    "no-teacher": {"mimic": "none", "probe_start": False, "soft_labels": False},
    "no-selection": {"kept_fraction": 1.0},
}
# IbM2's few-shot protocol: these numbers of images per class, three draws, the whole test set.
FEW_SHOTS = (1, 2, 3, 4, 5, 8, 16)

Inputs = tuple[tuple[str, str], ...]
OTHER_INPUTS = {
    "images": "other images",
    "teacher": "other weights or features of the teacher",
    "student_init": "other first weights of the student",
    "version": "another version of tcs-edge",
}


@dataclass(frozen=True)
class SharedOptions:
    """Options that all arms and seeds share, for one student and number of shots.

    Attributes:
        options: resolved.
        labeled_epochs: epochs of a method that needs labels, with the same number of images seen from the labeled
            images alone; None if every image has a label.
        inputs: what the options read, by the keys of `OTHER_INPUTS`: sha256 (hex) of its content, or a version.
    """

    options: ResolvedConfig
    labeled_epochs: int | None = None
    inputs: Inputs = ()


@dataclass(frozen=True)
class BenchRun:
    """One training run of a comparison.

    Attributes:
        arm: a key of `ARMS`, or "tcs/" and a key of `ABLATIONS`.
        options: options of the run, with its student, shots and seed.
        of_grid: True if the learning rate is one of several that are compared.
        inputs: as in `SharedOptions`.
    """

    arm: str
    options: ResolvedConfig
    of_grid: bool = False
    inputs: Inputs = ()

    @property
    def place(self) -> str:
        """Student, shots and seed, which all arms share, as a part of file names."""
        shots = f"-{self.options.shots}shots" if self.options.shots else ""
        return f"{self.options.student}{shots}-seed{self.options.seed}"

    @property
    def name(self) -> str:
        """Name of the run's file."""
        rate = f"-lr{self.options.lr:g}" if self.of_grid else ""
        return f"{self.arm}-{self.place}{rate}".replace("/", "-")

    @property
    def title(self) -> str:
        """Name of the run in messages."""
        shots = f", {self.options.shots} shots" if self.options.shots else ""
        rate = f", learning rate {self.options.lr:g}" if self.of_grid else ""
        return f"{self.arm}, {self.options.student}{shots}, seed {self.options.seed}{rate}"

    @property
    def teacher(self) -> str | None:
        """Name of the teacher's pass, which runs with the same features share; None without a teacher."""
        options = self.options
        if not options.has_teacher:
            return None
        kind = "maps" if options.method_facts.targets == "maps" else "features"
        loop = "-loop" if kind == "maps" and options.online_teacher else ""
        return f"teacher-{kind}{loop}-{self.place}".replace("/", "-")

    def config_key(self) -> dict[str, Any]:
        """Return everything that the run's result depends on, as JSON values, without options of other methods."""
        options = self.options.model_dump(mode="json", exclude_none=True)
        others = set(METHODS) - self.options.method_tables
        for unread in ("threads", "workers", "cache_dir", "cache_gb", "log", *others):
            options.pop(unread, None)
        unused = () if self.options.has_teacher else ("teacher",)
        inputs = {name: content for name, content in self.inputs if name not in unused}
        return {"arm": self.arm, "options": options, "inputs": inputs}


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Attributes:
        correct: one character per test image, "1" if the deployed model classified it correctly.
        train_seconds: wall time of the training loop, without the teacher's pass.
        peak_memory_mb: largest resident size of the run's process until the end of training, in 10^6 bytes.
        peak_gpu_mb: largest memory of torch on the accelerator, in 10^6 bytes; 0 without one.
        onnx_mb: size of the deployed model's ONNX file, in 10^6 bytes.
        latency_ms: median time of one image through that file in ONNX Runtime, on this machine's CPU with
            `threads` threads.
        val_accuracy: accuracy on all validation images after the last epoch, 0..1.
        teacher_seconds: duration of the teacher's pass; 0 without a teacher.
    """

    correct: str
    train_seconds: float
    peak_memory_mb: float
    peak_gpu_mb: float
    params_m: float
    macs_m: float
    onnx_mb: float
    latency_ms: float
    threads: int
    train_images: int
    val_accuracy: float
    teacher_seconds: float = 0.0

    @property
    def accuracy(self) -> float:
        """Accuracy on the test images, 0..1."""
        return self.correct.count("1") / len(self.correct)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def arms_of(methods: Sequence[str], ablations: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the changes of each arm of a comparison: the methods, then the ablations.

    Raises:
        UnknownName: no such method or ablation.
    """
    for kind, names, known in (("method", methods, ARMS), ("ablation", ablations, ABLATIONS)):
        for name in names:
            if name not in known:
                raise UnknownName(kind, name, known)
    arms = {name: ARMS[name] for name in methods}
    return arms | {f"tcs/{name}": {"method": "tcs", "tcs": ABLATIONS[name]} for name in ablations}


def make_runs(
    shared: Sequence[SharedOptions],
    arms: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    rates: Sequence[float] = (),
) -> tuple[BenchRun, ...]:
    """Make the run of each arm for each of `shared` and each seed, and each of `rates` if there are any.

    All runs of a seed come before the next seed, so that an interrupted comparison has complete seeds.

    Args:
        shared: options that arms and seeds share, one per student and number of shots.
        rates: peak learning rates instead of the shared one.

    Raises:
        SpecError: a shared option that an arm does not support.
    """
    return tuple(
        BenchRun(arm, _changed(base, changes, {"seed": seed, **rate}), of_grid=bool(rates), inputs=base.inputs)
        for seed in seeds
        for base in shared
        for arm, changes in arms.items()
        for rate in ([{"lr": rate} for rate in rates] or [{}])
    )


def _changed(base: SharedOptions, changes: Mapping[str, Any], own: Mapping[str, Any]) -> ResolvedConfig:
    """Return the shared options with those of the run itself and the changes of its arm."""
    document = base.options.model_dump(exclude_unset=True) | dict(own)
    if base.labeled_epochs and not METHODS[changes["method"]].label_free:
        document |= {"unlabeled": None, "rest_unlabeled": False, "epochs": base.labeled_epochs}
    tables = {name: document.get(name, {}) | table for name, table in changes.items() if isinstance(table, dict)}
    return validated(ResolvedConfig, document | dict(changes) | tables, Path("options"))

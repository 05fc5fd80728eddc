"""What a comparison consists of: one run per student, arm, number of shots and seed, and what a run found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tcs_edge.errors import UnknownName
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.specs.methods import METHODS
from tcs_edge.specs.strict import validated

SCHEMA_VERSION = 2

# What an arm changes about the options that all arms share; "-loop" keeps the teacher in memory.
ARMS: dict[str, dict[str, Any]] = {
    f"{name}{ending}": {"method": name} | ({"online_teacher": True} if ending else {})
    for name, facts in METHODS.items()
    for ending in ("", "-loop")
    if facts.online or not ending
}
# Each takes one thing away from TCS. A gain that survives it has another cause.
ABLATIONS: dict[str, dict[str, Any]] = {
    "random-axes": {"ablation": "random-axes"},
    "shuffled-targets": {"ablation": "shuffled-targets"},
    "top-variance": {"ablation": "top-variance"},
    "no-mimicking": {"mimic": "none"},
    "no-mimic-warmup": {"mimic_warmup": 0.0},
    "no-probe": {"probe_start": False, "soft_weight": 0.0},
    "no-teacher": {"label_weight": 1.0, "mimic": "none", "probe_start": False, "soft_weight": 0.0},
    "no-selection": {"kept_fraction": 1.0},
}
# IbM2's few-shot protocol: these numbers of images per class, three draws, the whole test set.
FEW_SHOTS = (1, 2, 3, 4, 5, 8, 16)


@dataclass(frozen=True)
class SharedOptions:
    """What all arms and seeds share at one student and number of shots.

    Attributes:
        options: resolved.
        labeled_epochs: for a method that cannot use images without labels: as many passes over the
            labeled ones as see the same number of images; None where every image has a label.
    """

    options: ResolvedConfig
    labeled_epochs: int | None = None


@dataclass(frozen=True)
class BenchRun:
    """One training run of a comparison.

    Attributes:
        arm: a key of `ARMS`, or "tcs/" and a key of `ABLATIONS`.
        options: of the run; student, shots and seed are the run's.
    """

    arm: str
    options: CompressConfig

    @property
    def place(self) -> str:
        """What the run shares with the other arms: student, shots, seed. Part of file names."""
        shots = f"-{self.options.shots}shots" if self.options.shots else ""
        return f"{self.options.student}{shots}-seed{self.options.seed}"

    @property
    def name(self) -> str:
        """Names the run's file."""
        return f"{self.arm}-{self.place}".replace("/", "-")

    @property
    def title(self) -> str:
        """Names the run to a person."""
        shots = f", {self.options.shots} shots" if self.options.shots else ""
        return f"{self.arm}, {self.options.student}{shots}, seed {self.options.seed}"

    @property
    def teacher(self) -> str | None:
        """Names the teacher's pass, which runs that read the same numbers share; None without a teacher."""
        options = self.options
        if not options.has_teacher:
            return None
        kind = "maps" if options.method_facts.targets == "maps" else "features"
        loop = "-loop" if kind == "maps" and options.online_teacher else ""
        return f"teacher-{kind}{loop}-{self.place}".replace("/", "-")

    def config_key(self) -> dict[str, Any]:
        """Everything the run's result depends on, as JSON values; what only other methods read is left out."""
        options = self.options.model_dump(mode="json", exclude_none=True)
        others = set(METHODS) - {self.options.method}
        for unread in ("threads", "workers", "cache_dir", *others):
            options.pop(unread, None)
        return {"arm": self.arm, "options": options}


@dataclass(frozen=True)
class RunResult:
    """What a run found.

    Attributes:
        correct: one character per test image, "1" where the deployed model was right.
        train_seconds: wall time of the training loop's stage, teacher pass apart.
        peak_memory_mb: largest resident size of the run's process until the end of training, in 10^6 bytes.
        peak_gpu_mb: largest memory torch took on the accelerator; 0 without one.
        onnx_mb: size of the deployed model's ONNX file, in 10^6 bytes.
        latency_ms: median time of one image through that file in ONNX Runtime, on this machine's CPU with
            `threads` threads.
        teacher_seconds: of the pass that the run's answers came from; 0 without a teacher.
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
    teacher_seconds: float = 0.0

    @property
    def accuracy(self) -> float:
        """On the test images, 0..1."""
        return self.correct.count("1") / len(self.correct)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def arms_of(methods: Sequence[str], ablations: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every arm of a comparison and what it changes, in the order asked for.

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
    shared: Sequence[SharedOptions], arms: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]
) -> tuple[BenchRun, ...]:
    """Every arm of every base at every seed, seed by seed, so that a comparison that stops early is one.

    Args:
        shared: the options that arms and seeds share, one per student and number of shots.

    Raises:
        SpecError: an arm cannot have an option that the others have.
    """
    return tuple(
        BenchRun(arm, _changed(base, changes, seed))
        for seed in seeds
        for base in shared
        for arm, changes in arms.items()
    )


def _changed(base: SharedOptions, changes: Mapping[str, Any], seed: int) -> CompressConfig:
    document = base.options.model_dump(exclude_unset=True) | {"seed": seed}
    if base.labeled_epochs and not METHODS[changes["method"]].label_free:
        document |= {"unlabeled": None, "rest_unlabeled": False, "epochs": base.labeled_epochs}
    tcs = document.get("tcs", {}) | changes.get("tcs", {})
    return validated(CompressConfig, document | dict(changes) | {"tcs": tcs}, Path("options"))

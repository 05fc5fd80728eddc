"""Registry of the training methods, and their config tables.

A method is a module with `build(inputs: MethodInputs) -> Method` and one line in `METHODS`. This module imports no
torch, so that options are checked at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from tcs_edge.specs.strict import Spec

Targets = Literal["none", "coordinates", "logits", "maps"]
Mimicking = Literal["cosine", "mse", "lsh", "lsh+mse", "none"]
SoftLabelSource = Literal["teacher", "student", "pooled"]
Head = Literal["coordinates", "linear"]
Ablation = Literal["none", "random-axes", "shuffled-targets", "top-variance"]


@dataclass(frozen=True)
class MethodFacts:
    """Facts about a training method.

    Attributes:
        module: name of the module with its `build`.
        targets: kind of the teacher's targets; "none" needs no teacher.
        label_free: whether images without labels can join training.
        online: whether the teacher can stay in memory and run on the student's own views.
        reads_labels: whether a label enters the loss.
        trains: False for a method that only fits a classifier on the features of the student's first weights.
    """

    module: str
    targets: Targets
    label_free: bool = False
    online: bool = False
    reads_labels: bool = True
    trains: bool = True


METHODS: dict[str, MethodFacts] = {
    "tcs": MethodFacts("tcs_edge.methods.tcs", "coordinates", label_free=True),
    "tcs-paper": MethodFacts("tcs_edge.methods.tcs", "coordinates", label_free=True),
    "simkd": MethodFacts("tcs_edge.methods.simkd", "maps", label_free=True, online=True, reads_labels=False),
    "kd": MethodFacts("tcs_edge.methods.kd", "logits", label_free=True, online=True),
    "dkd": MethodFacts("tcs_edge.methods.dkd", "logits", online=True),
    "ce": MethodFacts("tcs_edge.methods.ce", "none"),
    "probe": MethodFacts("tcs_edge.methods.probe", "none", trains=False),
}

# The losses that arXiv 2412.09388 states. The weight of the hashing loss is that of arXiv 2011.01424.
PAPER = {"soft_labels": False, "mimic": "lsh", "mimic_weight": 5.0, "probe_start": False}


class TcsOptions(Spec):
    """Options of `--method tcs` and `tcs-paper`, `[tcs]` in a config file."""

    everyday: ClassVar[tuple[str, ...] | None] = ("dims", "kept_fraction", "mimic", "mimic_weight", "soft_share")

    dims: int = Field(default=256, ge=2)
    """Largest number of PCA axes (k); the images may span fewer."""
    head: Head = "coordinates"
    """Input of the classifier in training: the student's coordinates, or its features (linear)."""
    kept_fraction: float = Field(default=0.5, gt=0, le=1)
    """Fraction of the k coordinates that feature selection keeps, in (0, 1]."""
    mimic: Mimicking | None = None
    """The mimicking loss: cosine, mse, lsh, lsh+mse or none. Default: cosine; lsh for tcs-paper."""
    mimic_weight: float | None = Field(default=None, ge=0)
    """Weight of the mimicking loss. Default: 0.1; 5 for tcs-paper."""
    mimic_warmup: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of the steps, at the start, that train on the mimicking loss alone."""
    hash_bits: int = Field(default=1024, ge=8)
    """Bits of the hashing losses (M)."""
    probe_start: bool | None = None
    """Initialize the classifier from a linear probe in the teacher's coordinates. Default: yes; no for a pretrained
    student."""
    soft_labels: bool | None = None
    """Learn the probe's soft labels. Default: yes; no for tcs-paper."""
    soft_share: float | None = Field(default=None, ge=0, le=1)
    """Share of the soft label in the loss of an image with a label, in 0..1; its label has the rest. Default: measured
    on held-out labels before the training."""
    label_propagation: bool = True
    """With unlabeled images: fit the probe on propagated labels too. Held-out accuracy sets their share."""
    student_probe: bool = True
    """With pretrained weights: also fit a probe on the student's own features. Held-out accuracy sets the mix."""
    temperature: float = Field(default=4.0, gt=0)
    """Temperature of the soft labels."""
    ablation: Ablation = "none"
    """An experiment that replaces one part: random-axes uses random axes instead of PCA, shuffled-targets another
    image's coordinates in the mimicking loss, top-variance the axes of most variance instead of the task's."""


class ResolvedTcs(TcsOptions):
    """The options of TCS with every default filled in; soft_share None is measured in the run."""

    mimic: Mimicking
    mimic_weight: float = Field(ge=0)
    probe_start: bool
    soft_labels: bool


class CeOptions(Spec):
    """Options of `--method ce`, `[ce]` in a config file."""

    everyday: ClassVar[tuple[str, ...] | None] = ()

    probe_start: bool = False
    """Initialize the classifier from a linear probe on the pretrained student's features (LP-FT, arXiv 2202.10054)."""


class KdOptions(Spec):
    """Options of `--method kd`, `[kd]` in a config file."""

    everyday: ClassVar[tuple[str, ...] | None] = ()

    soft_labels: SoftLabelSource = "teacher"
    """Linear probes that give the soft labels: on the teacher's features, on the pretrained student's own, which needs
    no teacher, or pooled as in tcs."""
    temperature: float = Field(default=4.0, gt=0)
    """Temperature of both softmaxes."""
    weight: float = Field(default=0.9, ge=0, le=1)
    """Weight of the teacher's loss, in [0, 1]; cross-entropy has the rest."""


class DkdOptions(Spec):
    """Options of `--method dkd`, `[dkd]` in a config file; cross-entropy has weight 1."""

    everyday: ClassVar[tuple[str, ...] | None] = ()

    soft_labels: SoftLabelSource = "teacher"
    """Linear probes that give the soft labels, as in `[kd]`."""
    temperature: float = Field(default=4.0, gt=0)
    """Temperature of both softmaxes."""
    alpha: float = Field(default=1.0, ge=0)
    """Weight of TCKD, the part for the label's class."""
    beta: float = Field(default=8.0, ge=0)
    """Weight of NCKD, the part for the other classes."""
    warmup: float = Field(default=1 / 12, ge=0, lt=1)
    """Fraction of the steps over which both weights rise from zero."""

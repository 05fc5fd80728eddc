"""What a training method has options for: the tables of a config file that belong to one method each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcs_edge.specs.strict import Spec

Mimicking = Literal["cosine", "mse", "lsh", "lsh+mse", "none"]
Ablation = Literal["none", "random-axes", "shuffled-targets", "top-variance"]


class TcsOptions(Spec):
    """The method's own options, `[tcs]` in a config file.

    Attributes:
        dims: k, PCA axes kept at most; fewer where the images span fewer.
        kept_fraction: share of the k coordinates that feature selection leaves, in (0, 1].
        label_weight: weight of cross-entropy on the labels; None is 0.1, and 1 where every image has a label and the
            student is a transformer or starts from given weights.
        mimic: the mimicking loss beside it.
        mimic_weight: its weight; None is 0.1, and 1 for a transformer from random weights where every image has a
            label.
        mimic_warmup: first share of all steps, in which the student learns by mimicking alone; None is 0.2, and 0
            for a transformer or a student that starts from given weights.
        hash_bits: M of the hashing losses.
        probe_start: start the classifier as a linear probe in the teacher's coordinates, instead of at random; None is
            yes, and no where the student starts from given weights.
        soft_weight: weight of that probe's soft labels; None is 0.9, and 0 where an open `label_weight` is 1.
        label_propagation: where there are images without labels, fit the probe on what images take over from their
            neighbors in the coordinates too, as much as labels that were held out bear out.
        student_probe: where the student starts from given weights, let its own features before training answer beside
            the teacher's; how much each has a say is settled by labels that are held out, half and half where every
            class has one label.
        temperature: T of the soft labels.
        ablation: an experiment that takes something away: axes that are random instead of PCA's (as many, at
            the same scale), another image's targets for each image, or keeping the axes of most variance
            instead of those that the task uses.
    """

    dims: int = Field(default=256, ge=2)
    kept_fraction: float = Field(default=0.5, gt=0, le=1)
    label_weight: float | None = Field(default=None, ge=0)
    mimic: Mimicking = "cosine"
    mimic_weight: float | None = Field(default=None, ge=0)
    mimic_warmup: float | None = Field(default=None, ge=0, lt=1)
    hash_bits: int = Field(default=1024, ge=8)
    probe_start: bool | None = None
    soft_weight: float | None = Field(default=None, ge=0)
    label_propagation: bool = True
    student_probe: bool = True
    temperature: float = Field(default=4.0, gt=0)
    ablation: Ablation = "none"


class KdOptions(Spec):
    """Options of `--method kd`, `[kd]` in a config file.

    Attributes:
        temperature: T of both softmaxes.
        weight: of the teacher's part, in [0, 1]; cross-entropy has the rest.
    """

    temperature: float = Field(default=4.0, gt=0)
    weight: float = Field(default=0.9, ge=0, le=1)


class DkdOptions(Spec):
    """Options of `--method dkd`, `[dkd]` in a config file; cross-entropy has weight 1.

    Attributes:
        temperature: T of both softmaxes.
        alpha: weight of the part about the label.
        beta: weight of the part about the other classes.
        warmup: share of the steps over which both rise from zero.
    """

    temperature: float = Field(default=4.0, gt=0)
    alpha: float = Field(default=1.0, ge=0)
    beta: float = Field(default=8.0, ge=0)
    warmup: float = Field(default=1 / 12, ge=0, lt=1)

"""Options of the training loop for all methods: precision, regularization, reproducibility."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tcs_edge.specs.strict import Spec

Amp = Literal["auto", "no", "bf16", "fp16"]
ResolvedAmp = Literal["no", "bf16", "fp16"]


class TrainOptions(Spec):
    """Options of the training loop, `[train]` in a config file; docs/how-to/training.md describes their use."""

    panel: ClassVar[str] = "Training loop"

    amp: Amp = "auto"
    """Mixed precision: no, bf16, fp16, or auto for the device's best, which is no on a CPU."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of each label spread over all classes, in [0, 1)."""
    mixup: float = Field(default=0.0, ge=0, le=100)
    """Mix images and their targets: alpha of Beta(alpha, alpha), such as 0.2; 0 is off."""
    rand_augment: int = Field(default=0, ge=0, le=30)
    """Magnitude of RandAugment, 1 to 30; 0 is off."""
    rand_augment_ops: int = Field(default=2, ge=1, le=14)
    """Operations of RandAugment on each view."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Validate and deploy the moving average of the weights; the decay, such as 0.999. 0 deploys the last weights."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay of matrices and kernels. Biases, norms and masks have none."""
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Fraction of all steps with a linearly rising learning rate, in [0, 1)."""
    grad_clip: float = Field(default=5.0, gt=0)
    """Largest global gradient norm."""
    compile: bool = False
    """Run the training step through torch.compile."""
    deterministic: bool = False
    """Use deterministic algorithms only."""


class ResolvedTrain(TrainOptions):
    """Training options with a resolved precision."""

    amp: ResolvedAmp = "no"

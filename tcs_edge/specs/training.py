"""How a student is trained, beside method and budget: precision, regularization, reproducibility."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcs_edge.specs.strict import Spec

Amp = Literal["auto", "no", "bf16", "fp16"]


class TrainOptions(Spec):
    """Options of the training loop, `[train]` in a config file; docs/how-to/training.md says when to use which.

    Attributes:
        amp: mixed precision: "no", "bf16", "fp16", or "auto" for what the device is good at.
        label_smoothing: share of each label that is spread over all classes, in [0, 1).
        mixup: alpha of Beta(alpha, alpha), from which the share of each mixed batch is drawn; 0 mixes nothing.
        rand_augment: magnitude of RandAugment, 1..30; 0 leaves it out.
        rand_augment_ops: how many of its operations each view goes through.
        ema_decay: of the moving average of the weights, in [0, 1), which is then what is validated and
            deployed; 0 deploys the weights of the last step.
        weight_decay: of matrices and kernels; biases, norms and masks have none.
        warmup_fraction: share of all steps with a linearly rising learning rate, in [0, 1).
        grad_clip: largest global gradient norm.
        compile: run the training step through torch.compile.
        deterministic: use deterministic algorithms alone.
    """

    amp: Amp = "no"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    mixup: float = Field(default=0.0, ge=0, le=100)
    rand_augment: int = Field(default=0, ge=0, le=30)
    rand_augment_ops: int = Field(default=2, ge=1, le=14)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    grad_clip: float = Field(default=5.0, gt=0)
    compile: bool = False
    deterministic: bool = False

"""DKD: KD's divergence in two parts with weights of their own (Zhao et al., arXiv 2203.08679, eq. 7).

KL(teacher || student) = TCKD + (1 - p_teacher[label]) NCKD. TCKD compares the probability of the label, NCKD
the distribution over the other classes. KD weakens NCKD where the teacher is confident; DKD does not.
Loss = CE + warm-up x T^2 (alpha TCKD + beta NCKD).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

from tcs_edge.methods.base import Losses, MethodInputs
from tcs_edge.methods.batch import Batch, label_loss, labeled_mean
from tcs_edge.methods.ce import CrossEntropy
from tcs_edge.methods.teacher import TargetSource


class Dkd(CrossEntropy):
    """One Linear(d_s, classes) on the backbone, trained on labels and both parts of the divergence.

    Args:
        features, classes, teacher, temperature: as `Kd`.
        alpha: weight of TCKD.
        beta: weight of NCKD.
        warmup: share of all steps over which both weights rise linearly from zero, in [0, 1). The paper has
            20 of 240 epochs.
    """

    name = "dkd"
    ramp: Tensor

    def __init__(
        self,
        features: int,
        classes: int,
        teacher: TargetSource,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        warmup: float = 1 / 12,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(features, classes, label_smoothing)
        self.teacher = teacher
        self.temperature, self.alpha, self.beta, self.warmup = temperature, alpha, beta, warmup
        self.register_buffer("ramp", torch.tensor(0.0 if warmup else 1.0))

    def losses(self, backbone: nn.Module, batch: Batch) -> Losses:
        logits = self.logits(backbone, batch.images).float()
        task = label_loss(logits, batch, self.label_smoothing)
        tckd, nckd = self._divergences(logits, batch)
        total = task + self.ramp * self.temperature**2 * (self.alpha * tckd + self.beta * nckd)
        return Losses(total, {"ce": task.detach(), "tckd": tckd.detach(), "nckd": nckd.detach()})

    def after_backward(self, step: int, total_steps: int) -> None:
        if self.warmup:
            self.ramp.fill_(min(1.0, (step + 1) / (self.warmup * total_steps)))

    def _divergences(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean TCKD and NCKD, (2,), over the images with a label; the label splits the divergence."""
        teacher = self.teacher(batch)

        def both(labels: Tensor) -> Tensor:
            parts = decoupled_kl(logits, teacher, labels.clamp_min(0), self.temperature)
            return torch.stack([labeled_mean(part, labels) for part in parts])

        return batch.over_labels(both)


def decoupled_kl(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return TCKD (B,) and NCKD (B,) of logits (B, classes) and labels (B,), both softened by `temperature`."""
    is_label = one_hot(labels, student.shape[1]).bool()
    target = _decoupled(teacher / temperature, is_label)
    predicted = _decoupled(student / temperature, is_label)
    tckd, nckd = (_kl(*pair) for pair in zip(target, predicted, strict=True))
    return tckd, nckd


def _decoupled(logits: Tensor, is_label: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (label, any other class), (B, 2), and among the other classes, (B, classes).

    Among the other classes, the label has log-probability -inf.
    """
    label = logits.masked_fill(~is_label, -torch.inf).logsumexp(dim=1)
    others = logits.masked_fill(is_label, -torch.inf)
    binary = log_softmax(torch.stack([label, others.logsumexp(dim=1)], dim=1), dim=1)
    return binary, log_softmax(others, dim=1)


def _kl(target: Tensor, predicted: Tensor) -> Tensor:
    """KL divergence of log-probabilities (B, n), summed over n; an entry that is -inf in both adds 0."""
    impossible = target.isneginf() & predicted.isneginf()
    difference = (target.masked_fill(impossible, 0) - predicted.masked_fill(impossible, 0)) * target.exp()
    return difference.sum(dim=1)


def build(inputs: MethodInputs) -> Dkd:
    """Return the method for a run."""
    options = inputs.options.dkd.model_dump(exclude={"soft_labels"})
    teacher = inputs.teacher_targets.source()
    return Dkd(inputs.feature_dim, inputs.classes, teacher, **options, label_smoothing=inputs.label_smoothing)

"""DKD: KD's divergence in two parts that are weighted apart (Zhao et al., arXiv 2203.08679, eq. 7).

KL(teacher || student) = TCKD + (1 - p_teacher[label]) NCKD: how sure of the label, and how the rest
is shared among the other classes. KD mutes the second where the teacher is sure; DKD does not.
Loss = CE + warm-up x T^2 (alpha TCKD + beta NCKD).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

from tcs_edge.methods.base import Losses, MethodInputs
from tcs_edge.methods.batch import Batch, label_loss, labeled_mean
from tcs_edge.methods.ce import CrossEntropy
from tcs_edge.methods.teacher import Answers


class Dkd(CrossEntropy):
    """One Linear(d_s, classes) on the backbone, trained on labels and both parts of the divergence.

    Args:
        features, classes, teacher, temperature: as `Kd`.
        alpha: weight of TCKD.
        beta: weight of NCKD.
        warmup: share of all steps over which both rise linearly from zero, in [0, 1); the paper's
            20 of 240 epochs.
    """

    name = "dkd"
    ramp: Tensor

    def __init__(
        self,
        features: int,
        classes: int,
        teacher: Answers,
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
        """Mean TCKD and NCKD over the images that have a label, (2,): the label is what they are split by."""
        teacher = self.teacher(batch)

        def both(labels: Tensor) -> Tensor:
            parts = decoupled_kl(logits, teacher, labels.clamp_min(0), self.temperature)
            return torch.stack([labeled_mean(part, labels) for part in parts])

        return batch.over_labels(both)


def decoupled_kl(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """TCKD (B,) and NCKD (B,) of logits (B, classes) and labels (B,), both softened by `temperature`."""
    is_label = one_hot(labels, student.shape[1]).bool()
    wanted = _decoupled(teacher / temperature, is_label)
    said = _decoupled(student / temperature, is_label)
    tckd, nckd = (_kl(*pair) for pair in zip(wanted, said, strict=True))
    return tckd, nckd


def _decoupled(logits: Tensor, is_label: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (label, any other class), (B, 2), and among the other classes, (B, classes).

    In the second the label itself has log-probability -inf.
    """
    label = logits.masked_fill(~is_label, -torch.inf).logsumexp(dim=1)
    others = logits.masked_fill(is_label, -torch.inf)
    binary = log_softmax(torch.stack([label, others.logsumexp(dim=1)], dim=1), dim=1)
    return binary, log_softmax(others, dim=1)


def _kl(wanted: Tensor, said: Tensor) -> Tensor:
    """KL divergence of log-probabilities (B, n), summed over n; what is impossible on both sides adds 0."""
    impossible = wanted.isneginf() & said.isneginf()
    difference = (wanted.masked_fill(impossible, 0) - said.masked_fill(impossible, 0)) * wanted.exp()
    return difference.sum(dim=1)


def build(inputs: MethodInputs) -> Dkd:
    """Return the method for a run."""
    options = inputs.options.dkd.model_dump()
    answers = inputs.teacher_targets.ask()
    return Dkd(inputs.feature_dim, inputs.classes, answers, **options, label_smoothing=inputs.label_smoothing)

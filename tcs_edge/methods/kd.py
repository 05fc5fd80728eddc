"""KD: learn the teacher's softened class probabilities (Hinton et al., arXiv 1503.02531).

A self-supervised teacher has no classes, so its logits come from a linear probe on its features, fitted on the
training images. Loss = (1 - w) CE + w T^2 KL(teacher || student), both softened by T.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from tcs_edge.methods.base import Losses, MethodInputs
from tcs_edge.methods.batch import Batch, label_loss
from tcs_edge.methods.ce import CrossEntropy
from tcs_edge.methods.teacher import TargetSource


class Kd(CrossEntropy):
    """One Linear(d_s, classes) on the backbone, trained on labels and the teacher's logits.

    Args:
        features: d_s, width of the student's backbone.
        classes: number of classes.
        teacher: a batch -> the teacher's logits (B, classes).
        temperature: T > 0.
        weight: w in [0, 1]; 0 is cross-entropy alone.
    """

    name = "kd"

    def __init__(
        self,
        features: int,
        classes: int,
        teacher: TargetSource,
        temperature: float = 4.0,
        weight: float = 0.9,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(features, classes, label_smoothing)
        self.teacher = teacher
        self.temperature, self.weight = temperature, weight

    def losses(self, backbone: nn.Module, batch: Batch) -> Losses:
        logits = self.logits(backbone, batch.images).float()
        task = label_loss(logits, batch, self.label_smoothing)
        soft = softened_kl(logits, self.teacher(batch), self.temperature)
        total = (1 - self.weight) * task + self.weight * soft
        return Losses(total, {"ce": task.detach(), "kd": soft.detach()})


def softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean of `softened_kl_by_image` over the batch."""
    return softened_kl_by_image(student, teacher, temperature).mean()


def softened_kl_by_image(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), (B,), of logits (B, classes).

    The factor T^2 keeps the size of the gradient independent of T (section 2 of the paper).
    """
    target, predicted = log_softmax(teacher / temperature, dim=1), log_softmax(student / temperature, dim=1)
    return kl_div(predicted, target, reduction="none", log_target=True).sum(dim=1) * temperature**2


def build(inputs: MethodInputs) -> Kd:
    """Return the method for a run."""
    options = inputs.options.kd.model_dump(exclude={"soft_labels"})
    teacher = inputs.teacher_targets.source()
    return Kd(inputs.feature_dim, inputs.classes, teacher, **options, label_smoothing=inputs.label_smoothing)

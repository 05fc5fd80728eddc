"""Cross-entropy alone, the baseline: the same student, schedule and data without a teacher.

The classifier may start as a linear probe on the pretrained features (LP-FT, Kumar et al., arXiv 2202.10054), so that
a random classifier does not distort them.
"""

from __future__ import annotations

from torch import Tensor, nn

from tcs_edge.methods.base import Losses, Method, MethodInputs
from tcs_edge.methods.batch import Batch, label_loss


class CrossEntropy(Method):
    """One Linear(d_s, classes) on the backbone, trained on the labels.

    Args:
        start: Linear(d_s, classes) with the classifier's initial values; None draws them at random.
    """

    name = "ce"

    def __init__(
        self, features: int, classes: int, label_smoothing: float = 0.0, start: nn.Linear | None = None
    ) -> None:
        super().__init__()
        self.classifier = nn.Linear(features, classes)
        if start is not None:
            self.classifier.load_state_dict(start.state_dict())
        self.label_smoothing = label_smoothing

    def losses(self, backbone: nn.Module, batch: Batch) -> Losses:
        loss = label_loss(self.logits(backbone, batch.images), batch, self.label_smoothing)
        return Losses(loss, {"ce": loss.detach()})

    def logits(self, backbone: nn.Module, images: Tensor) -> Tensor:
        return self.classifier(backbone(images))

    def deployed(self, backbone: nn.Module) -> nn.Module:
        return nn.Sequential(backbone, self.classifier)


def build(inputs: MethodInputs) -> CrossEntropy:
    """Return the method for a run."""
    start = inputs.targets.probe if inputs.targets else None
    return CrossEntropy(inputs.feature_dim, inputs.classes, inputs.label_smoothing, start)

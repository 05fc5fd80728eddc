"""SimKD: imitate the teacher's last feature map, then reuse the teacher's classifier (arXiv 2203.14001).

The only loss is the MSE between the projected student map and the teacher's map. At inference, the mean of the
projected map goes through the teacher's frozen classifier, so the projector is deployed too.

A self-supervised teacher has no classifier; a linear probe replaces it. The probe's input is the mean over the
grid of the imitated map. Fit it on that mean, not on a class token or on features after the teacher's pooling.
For a teacher with negative features, the projector has no last ReLU, because a ReLU has no negative outputs.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import mse_loss

from tcs_edge.methods.base import Losses, Method, MethodInputs
from tcs_edge.methods.batch import Batch
from tcs_edge.methods.teacher import TargetSource
from tcs_edge.models.feature_map import drop_head, last_map, map_shape, pooled_to


class SimKdStudent(nn.Module):
    """Model to deploy: backbone, projector, mean over the map, the teacher's classifier.

    Args:
        backbone: a timm model; only its last map is used.
        channels: c, channels of that map.
        width: d, channels of the teacher's map.
        grid: side of the projected map; average pooling brings a larger student map down to it.
        signed: whether the teacher's features take negative values.
    """

    def __init__(self, backbone: nn.Module, channels: int, width: int, classes: int, grid: int, signed: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = make_projector(channels, width, signed)
        self.classifier = nn.Linear(width, classes)
        self.grid, self.signed = grid, signed

    def forward(self, images: Tensor) -> Tensor:
        projected = self.projector(pooled_to(last_map(self.backbone, images), self.grid))
        return self.classifier(projected.mean(dim=(2, 3)))

    def blueprint(self) -> dict[str, Any]:
        """Return the arguments that build this network again, without the backbone."""
        return {
            "channels": self.projector[0].in_channels,
            "width": self.classifier.in_features,
            "classes": self.classifier.out_features,
            "grid": self.grid,
            "signed": self.signed,
        }


class SimKd(Method):
    """Projector on the student's last map that imitates the teacher's map.

    Args:
        channels: c, channels of the student's last map.
        probe: the teacher's frozen classifier, Linear(d, classes) on the mean of its map.
        teacher: a batch -> the teacher's maps (B, d, grid, grid).
        grid, signed: as `SimKdStudent`.
    """

    name = "simkd"

    def __init__(self, channels: int, probe: nn.Linear, teacher: TargetSource, grid: int, signed: bool) -> None:
        super().__init__()
        self.projector = make_projector(channels, probe.in_features, signed)
        self.classifier = probe.requires_grad_(False)
        self.teacher = teacher
        self.grid, self.signed = grid, signed

    def losses(self, backbone: nn.Module, batch: Batch) -> Losses:
        loss = mse_loss(self._projected(backbone, batch.images).float(), self.teacher(batch))
        return Losses(loss, {"mse": loss.detach()})

    def logits(self, backbone: nn.Module, images: Tensor) -> Tensor:
        return self.classifier(self._projected(backbone, images).mean(dim=(2, 3)))

    def deployed(self, backbone: nn.Module) -> nn.Module:
        channels, width = self.projector[0].in_channels, self.classifier.in_features
        student = SimKdStudent(backbone, channels, width, self.classifier.out_features, self.grid, self.signed)
        student.projector, student.classifier = self.projector, self.classifier
        return student

    def _projected(self, backbone: nn.Module, images: Tensor) -> Tensor:
        return self.projector(pooled_to(last_map(backbone, images), self.grid))


def make_projector(channels: int, width: int, signed: bool) -> nn.Sequential:
    """Make 1x1, 3x3 and 1x1 convolutions (B, channels, g, g) -> (B, width, g, g), with half the width inside.

    Batch norm and ReLU follow each convolution, which has no bias; `signed` leaves the last ReLU out.
    """
    half = width // 2
    layers = [*_block(channels, half, 1), *_block(half, half, 3), *_block(half, width, 1)]
    return nn.Sequential(*(layers[:-1] if signed else layers))


def _block(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def build(inputs: MethodInputs) -> SimKd:
    """Return the method for a run; the backbone loses its head."""
    targets = inputs.teacher_targets
    if targets.probe is None:
        raise ValueError("SimKD needs a linear probe of the teacher")
    drop_head(inputs.backbone, inputs.img_size)
    channels, _ = map_shape(inputs.backbone, inputs.img_size)
    return SimKd(channels, targets.probe, targets.source(), targets.grid, targets.signed)

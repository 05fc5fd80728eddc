"""The built-in teacher: a small residual network trained on handwritten digits without labels.

With it the demo needs no download. `tools/train_digits_teacher.py` trains the weights;
docs/explanation/digits-teacher.md lists their accuracy.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from tcs_edge.errors import MissingError
from tcs_edge.models.safetensors_file import read_state

WEIGHTS = Path(__file__).parent / "digits.safetensors"
LICENSE = "Apache-2.0"
IMG_SIZE = 32  # pixels; the digits have 8 and are enlarged
MEAN = (0.305, 0.305, 0.305)  # of the enlarged training images, in 0..1
STD = (0.323, 0.323, 0.323)

_WIDTHS = (32, 64, 160)
DIM = _WIDTHS[-1]


class DigitsTeacher(nn.Module):
    """Network of three residual blocks (arXiv 1512.03385) and average pooling; 0.41 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        narrow, middle, wide = _WIDTHS
        self.stem = nn.Sequential(*_conv_norm(3, narrow, stride=2), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(
            ResidualBlock(narrow, narrow, stride=1),
            ResidualBlock(narrow, middle, stride=2),
            ResidualBlock(middle, wide, stride=2),
        )

    def forward_features(self, images: Tensor) -> Tensor:
        """Compute the last feature map (B, 160, 4, 4), >= 0, of normalized float32 images (B, 3, 32, 32)."""
        return self.blocks(self.stem(images))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features (B, 160) of normalized float32 images (B, 3, 32, 32)."""
        return self.forward_features(images).mean(dim=(2, 3))


class ResidualBlock(nn.Module):
    """Residual block relu(conv(relu(conv(x))) + x); the skip has a 1x1 convolution where shapes change.

    Every conv is a 3x3 convolution with batch norm.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv_norm(inputs, outputs, stride), nn.ReLU(inplace=True), *_conv_norm(outputs, outputs)
        )
        same = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same else nn.Sequential(*_conv_norm(inputs, outputs, stride, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.skip(x)).relu()


def _conv_norm(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(outputs)


def load_digits_teacher() -> DigitsTeacher:
    """Load the teacher with its weights, as float32 on the CPU, in eval mode.

    Raises:
        MissingError: the weights are missing in the installed package.
    """
    if not WEIGHTS.is_file():
        raise MissingError(f"the weights of the built-in teacher are missing: {WEIGHTS}. Install tcs-edge again.")
    teacher = DigitsTeacher()
    teacher.load_state_dict(read_state(WEIGHTS, teacher.state_dict().keys()))
    teacher.eval()
    return teacher

"""The built-in teacher: a small residual network that learned handwritten digits without a label.

It lets the demo run with no download. `benchmarks/train_digits_teacher.py` makes the weights;
docs/explanation/digits-teacher.md says how good they are.
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
    """Three residual blocks (arXiv 1512.03385) and an average over the last map; 0.41 million parameters."""

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
        """float32 (B, 3, 32, 32), normalized -> the last map (B, 160, 4, 4), not negative."""
        return self.blocks(self.stem(images))

    def forward(self, images: Tensor) -> Tensor:
        """float32 (B, 3, 32, 32), normalized -> features (B, 160)."""
        return self.forward_features(images).mean(dim=(2, 3))


class ResidualBlock(nn.Module):
    """relu(conv(relu(conv(x))) + x), each conv 3x3 + batch norm; x passes a 1x1 where shapes change."""

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
    """The teacher with its weights, as float32 on the CPU, in eval mode.

    Raises:
        MissingError: the package came without the weights.
    """
    if not WEIGHTS.is_file():
        raise MissingError(f"the built-in teacher has no weights: {WEIGHTS} is gone. Install tcs-edge again.")
    teacher = DigitsTeacher()
    teacher.load_state_dict(read_state(WEIGHTS, teacher.state_dict().keys()))
    return teacher.eval()

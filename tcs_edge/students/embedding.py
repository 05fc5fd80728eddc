"""Embedding of a student: a second output of the deployed model, computed from the features that its classifier reads.

| method | embedding |
|---|---|
| tcs, tcs-paper | the kept coordinates, in the teacher's coordinate system |
| simkd | the mean of the projected map, in the teacher's feature space |
| others | the features in front of the classifier |

The classifier does not change, so the logits are those of the model without an embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tcs_edge.errors import DataError, reason_of
from tcs_edge.methods import SimKdStudent
from tcs_edge.models.feature_map import last_map, pooled_to
from tcs_edge.tcs.head import FoldedHead
from tcs_edge.utils.files import write_bytes
from tcs_edge.utils.reading import require_content

EmbeddingKind = Literal["coordinates", "teacher features", "features"]
AGAIN = "Run compress again, with --with-embedding."


class StudentWithEmbedding(nn.Module):
    """Deployed student with two outputs: (B, 3, S, S) -> logits (B, classes) and embedding (B, k).

    Args:
        student: the deployed model of one output.
        coordinates: Linear(d_s, k) on the features in front of the classifier; None returns the features.
    """

    def __init__(self, student: nn.Module, coordinates: nn.Linear | None) -> None:
        super().__init__()
        self.student = student
        self.coordinates = coordinates

    @property
    def classifier(self) -> nn.Linear:
        """The last layer of the student."""
        last: nn.Linear = self.student.classifier if isinstance(self.student, SimKdStudent) else self.student[-1]
        return last

    @property
    def embedding_size(self) -> int:
        """k, the number of values of an embedding."""
        return int(self.coordinates.out_features if self.coordinates else self.classifier.in_features)

    @property
    def kind(self) -> EmbeddingKind:
        """The space of the embedding."""
        if self.coordinates:
            return "coordinates"
        return "teacher features" if isinstance(self.student, SimKdStudent) else "features"

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, classes) and embedding (B, k)."""
        features = self._features(images)
        return self.classifier(features), self.coordinates(features) if self.coordinates else features

    def _features(self, images: Tensor) -> Tensor:
        if isinstance(self.student, SimKdStudent):
            projected = self.student.projector(pooled_to(last_map(self.student.backbone, images), self.student.grid))
            return projected.mean(dim=(2, 3))
        features: Tensor = self.student[0](images)
        return features


def coordinates_of(student: nn.Module) -> nn.Linear | None:
    """Return Linear(d_s, k) of the coordinates that a student learned; None for a method without coordinates."""
    last = student[-1] if isinstance(student, nn.Sequential) else None
    return last.coordinates if isinstance(last, FoldedHead) else None


def with_embedding(student: nn.Module, coordinates: Path) -> StudentWithEmbedding:
    """Return the deployed `student` with its embedding.

    Args:
        coordinates: file of `save_coordinates`; not there for a method without coordinates.

    Raises:
        DataError: the file is damaged, or of another student.
    """
    model = StudentWithEmbedding(student, None)
    if coordinates.exists():
        model.coordinates = load_coordinates(coordinates, model.classifier.in_features)
    model.eval()
    return model


def save_coordinates(path: Path, coordinates: nn.Linear | None) -> None:
    """Write the coordinates as safetensors; without coordinates, write no file.

    Raises:
        MissingError: the disk is full or the folder cannot be written.
    """
    if coordinates is not None:
        write_bytes(path, save({name: value.contiguous() for name, value in coordinates.state_dict().items()}))


def load_coordinates(path: Path, features: int) -> nn.Linear:
    """Read Linear(features, k) that `save_coordinates` wrote.

    Raises:
        DataError: the file is damaged, or of another student.
    """
    require_content(path)
    try:
        with safe_open(path, framework="pt") as stored:
            weight, bias = stored.get_tensor("weight"), stored.get_tensor("bias")
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read ({reason_of(error)}). {AGAIN}") from None
    shapes = list(weight.shape), list(bias.shape)
    if weight.dim() != 2 or not weight.numel() or shapes != ([len(weight), features], [len(weight)]):
        raise DataError(f"{path} has shapes {shapes[0]} and {shapes[1]}, not (k, {features}) and (k). {AGAIN}")
    linear = nn.Linear(features, len(weight))
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return linear

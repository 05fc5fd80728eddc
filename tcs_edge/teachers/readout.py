"""Output of a teacher that is stored: its pooled features, or its last feature map.

Maps are averaged to the grid of the comparison before they are stored. Training would do the same, and
the stored maps are often 20 times smaller (docs/explanation/decisions/0003-simkd-maps.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tcs_edge.models.feature_map import last_map, map_shape, pooled_to
from tcs_edge.teachers.digits import DigitsTeacher
from tcs_edge.teachers.info import TeacherInfo
from tcs_edge.teachers.load import PooledFeatures, untrained_teacher


@dataclass(frozen=True)
class Readout:
    """Numbers that a pass stores for each image, flattened to one row.

    Attributes:
        kind: "pooled" is the pooled output after the final norm, (d,). "map" is the last feature map
            averaged to (d, grid, grid). "map mean" is the mean of that map, (d,).
        channels: d of the map; 0 for "pooled".
        grid: side of the map; 0 for "pooled".
    """

    kind: Literal["pooled", "map", "map mean"] = "pooled"
    channels: int = 0
    grid: int = 0

    @property
    def width(self) -> int:
        """Numbers per image; 0 for "pooled", whose width depends on the teacher."""
        return self.channels * (self.grid**2 if self.kind == "map" else 1)

    def ingredients(self) -> dict[str, Any]:
        """Return the additional entries of the cache key; empty for the pooled features."""
        return {} if self.kind == "pooled" else {"readout": self.kind, "grid": self.grid}

    def of(self, teacher: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return a function from normalized images (B, 3, S, S) to float32 rows (B, n)."""
        if self.kind == "pooled":
            pooled: Callable[[Tensor], Tensor] = teacher
            return pooled
        if self.kind == "map":
            return lambda images: self.maps(teacher, images).flatten(1)
        return lambda images: self.maps(teacher, images).mean(dim=(2, 3))

    def maps(self, teacher: nn.Module, images: Tensor) -> Tensor:
        """Compute the teacher's last feature maps, float32 (B, d, grid, grid)."""
        return pooled_to(last_map(_timm_model(teacher), images).float(), self.grid)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Convert stored rows to one feature vector per image, (N, d), as input of a linear probe."""
        if self.kind != "map":
            return rows
        maps = rows.reshape(len(rows), self.channels, self.grid**2)
        means: np.ndarray = maps.mean(axis=2, dtype=np.float32)
        return means


POOLED = Readout()


def teacher_map_shape(info: TeacherInfo) -> tuple[int, int]:
    """Shape (d, side) of a described teacher's last feature map, without loading or computing it."""
    size = info.preprocess.img_size
    with torch.device("meta"):
        outline = untrained_teacher(info.name, size)[0] if info.timm_name else DigitsTeacher()
        return map_shape(_timm_model(outline), size)


def _timm_model(teacher: nn.Module) -> nn.Module:
    return teacher.backbone if isinstance(teacher, PooledFeatures) else teacher

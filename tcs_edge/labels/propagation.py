"""Label propagation on a graph of nearest neighbors.

A probe fitted on a few labeled images is uncertain about images far from all of them. Unlabeled images
lie in between, so each image's probabilities are mixed repeatedly with its neighbors' probabilities.

Source: Zhou et al., "Learning with Local and Global Consistency", NIPS 2003, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

NEIGHBORS = 10
ROUNDS = 30
# Every image is compared with every other, which takes minutes for more images than this.
MAX_IMAGES = 50_000
_SIMILARITIES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Graph:
    """Nearest neighbors of every image by cosine similarity.

    Attributes:
        neighbors: int64 (N, n), positions of the neighbors.
        weights: float32 (N, n), each row sums to 1; cubed cosines, 0 where the cosine is negative.
    """

    neighbors: Tensor
    weights: Tensor

    def average(self, rows: Tensor) -> Tensor:
        """Average rows (N, c) over the neighbors of each image, with their weights."""
        total = torch.zeros_like(rows)
        for neighbor, weight in zip(self.neighbors.T, self.weights.T, strict=True):
            total.addcmul_(rows[neighbor], weight[:, None])
        return total


def neighbor_graph(coordinates: Tensor, count: int = NEIGHBORS) -> Graph:
    """Find the `count` nearest neighbors (at most N - 1) of coordinates (N, k)."""
    rows = normalize(coordinates.float(), dim=1)
    count = min(count, len(rows) - 1)
    found, similar = [], []
    for start in range(0, len(rows), chunk := max(1, _SIMILARITIES_AT_ONCE // len(rows))):
        part = rows[start : start + chunk] @ rows.T
        part[torch.arange(len(part)), torch.arange(start, start + len(part))] = -torch.inf
        values, indices = part.topk(count, dim=1)
        found.append(indices)
        similar.append(values)
    weights = torch.cat(similar).clamp_min(0) ** 3
    return Graph(torch.cat(found), weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12))


def smoothed(graph: Graph, probabilities: Tensor, share: float) -> Tensor:
    """Propagate probabilities (N, classes): `ROUNDS` times F <- share x neighbors' F + (1 - share) x probabilities."""
    smooth = probabilities
    for _ in range(ROUNDS if share else 0):
        smooth = share * graph.average(smooth) + (1 - share) * probabilities
    return smooth / smooth.sum(dim=1, keepdim=True)

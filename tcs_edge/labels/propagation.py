"""Label propagation on a graph of nearest neighbors.

A probe fitted on a few labeled images is uncertain about images far from all of them. Unlabeled images
lie in between, so each image's probabilities are mixed repeatedly with its neighbors' probabilities.

Source: Zhou et al., "Learning with Local and Global Consistency", NIPS 2003, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tcs_edge.labels.nearest import nearest

NEIGHBORS = 10
ROUNDS = 30
_ROWS_AT_ONCE = 65_536  # bounds the memory beside the probabilities

ALL = slice(None)


@dataclass(frozen=True)
class Graph:
    """Nearest neighbors of every image by cosine similarity.

    Attributes:
        neighbors: int64 (N, n), positions of the neighbors.
        weights: float32 (N, n), each row sums to 1; cubed cosines, 0 where the cosine is negative.
    """

    neighbors: Tensor
    weights: Tensor

    def average(self, rows: Tensor, images: slice = ALL) -> Tensor:
        """Average rows (N, c) over the neighbors of each of `images`, with their weights."""
        total = torch.zeros_like(rows[images])
        for neighbor, weight in zip(self.neighbors[images].T, self.weights[images].T, strict=True):
            total.addcmul_(rows[neighbor], weight[:, None])
        return total


def neighbor_graph(coordinates: Tensor, count: int = NEIGHBORS) -> Graph:
    """Find the `count` nearest neighbors (at most N - 1) of coordinates (N, k).

    Above `labels.nearest.EXACT_ROWS` images the search is approximate.
    """
    found, similar = nearest(coordinates, min(count, len(coordinates) - 1))
    weights = similar.clamp_min(0) ** 3
    return Graph(found, weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12))


def smoothed(graph: Graph, probabilities: Tensor, share: float) -> Tensor:
    """Propagate probabilities (N, classes): `ROUNDS` times F <- share x neighbors' F + (1 - share) x probabilities."""
    smooth = probabilities
    for _ in range(ROUNDS if share else 0):
        spread = torch.empty_like(probabilities)
        for start in range(0, len(spread), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            spread[part] = share * graph.average(smooth, part) + (1 - share) * probabilities[part]
        smooth = spread
    return smooth / smooth.sum(dim=1, keepdim=True)

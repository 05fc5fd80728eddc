"""PCA of features: of the teacher's it is the coordinate system that the student learns in.

The features of N images are never held together in float64: their first two moments are
accumulated batch by batch and merged (Chan, Golub, LeVeque 1983), so memory is O(d^2)
whatever N is, and partial results of several processes merge to the same coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tcs_edge.errors import DataError

# Below this share of the largest eigenvalue an axis is rounding noise of float16 features.
RELATIVE_RANK_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Moments:
    """Count, mean (d,) and centered scatter (d, d) of feature vectors, in float64."""

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Moments of one batch of features (B, d), B >= 1."""
        centered = features.to(torch.float64, copy=True)  # centered in place: a second copy is half of what this takes
        mean = centered.mean(dim=0)
        centered -= mean
        return cls(len(centered), mean, centered.T @ centered)

    def merge(self, other: Moments) -> Moments:
        """Moments of the union of two disjoint sets (Chan et al. 1983, eq. 2.1)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        cross = torch.outer(delta, delta) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + cross)


@dataclass(frozen=True)
class Coordinates:
    """z = (f - mean) axes / scale, the map from teacher features to coordinates.

    Attributes:
        mean: (d,) float64, mean feature.
        axes: (d, k) float64, orthonormal eigenvectors, largest eigenvalue first.
        eigenvalues: (d,) float64, variance along every axis, kept or not, in descending order.
        scale: one number for all axes, the RMS of the entries of f - mean.
    """

    mean: Tensor
    axes: Tensor
    eigenvalues: Tensor
    scale: float

    @property
    def dims(self) -> int:
        """k, the number of coordinates."""
        return int(self.axes.shape[1])

    @property
    def explained_variance(self) -> float:
        """Share of the teacher's variance that the k kept axes carry, in [0, 1]."""
        return float(self.eigenvalues[: self.dims].sum() / self.eigenvalues.sum())

    def transform(self, features: Tensor) -> Tensor:
        """Coordinates (B, k) float32 of features (B, d)."""
        return ((features.to(torch.float64) - self.mean) @ self.axes / self.scale).to(torch.float32)


def fit_coordinates(batches: Iterable[Tensor], dims: int | None = None) -> Coordinates:
    """PCA over batches of features (B, d), keeping at most `dims` axes.

    Axes without variance are dropped, so with fewer images than dimensions k is at most N - 1.

    Args:
        batches: feature batches; each image appears once.
        dims: k; None keeps every axis that carries variance.

    Raises:
        DataError: fewer than two images, or features that do not vary.
    """
    moments: Moments | None = None
    for batch in batches:
        current = Moments.of(batch)
        moments = current if moments is None else moments.merge(current)
    if moments is None or moments.count < 2:
        raise DataError("coordinates need the features of at least 2 images. Add images.")
    return coordinates_of(moments, dims)


def coordinates_of(moments: Moments, dims: int | None = None) -> Coordinates:
    """Coordinates from accumulated moments; see `fit_coordinates`."""
    values, vectors = torch.linalg.eigh(moments.scatter / moments.count)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    rank = int((values > values[0] * RELATIVE_RANK_TOLERANCE).sum())
    if values[0] == 0:
        raise DataError("the teacher gives the same feature for every image. Choose another teacher.")
    kept = min(rank, dims or rank, moments.count - 1)
    axes = _with_fixed_signs(vectors[:, :kept])
    return Coordinates(moments.mean, axes, values, scale=float(values.mean().sqrt()))


def random_axes(coordinates: Coordinates, generator: torch.Generator) -> Coordinates:
    """The ablation: the same mean, scale and k, on random orthonormal axes instead of PCA's."""
    shape = coordinates.axes.shape
    gaussian = torch.randn(shape, generator=generator, dtype=torch.float64)
    axes, _ = torch.linalg.qr(gaussian)
    return Coordinates(coordinates.mean, axes, coordinates.eigenvalues, coordinates.scale)


def _with_fixed_signs(axes: Tensor) -> Tensor:
    """An eigenvector's sign is arbitrary: make its largest component positive, so runs agree."""
    largest = axes.abs().argmax(dim=0)
    return axes * axes.gather(0, largest[None, :]).sign()

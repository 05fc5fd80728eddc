"""PCA of features; the PCA of the teacher's features is the coordinate system of the student.

The first two moments of the features are accumulated batch by batch and merged (Chan, Golub,
LeVeque 1983). The memory is O(d^2) for any number of images, and partial results of several
processes merge to the same coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tcs_edge.errors import DataError

# An eigenvalue below this fraction of the largest one is rounding noise of float16 features.
RELATIVE_RANK_TOLERANCE = 1e-10
ROWS_AT_ONCE = 4096  # rows that are converted to float64 together
TOO_FEW = "coordinates need the features of at least 2 images. Add images."


@dataclass(frozen=True)
class Moments:
    """Count, mean (d,) and centered scatter (d, d) of feature vectors, in float64."""

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Moments of one batch of features (B, d), B >= 1."""
        centered = features.to(torch.float64, copy=True)  # centered in place, which avoids a second copy
        mean = centered.mean(dim=0)
        centered -= mean
        return cls(len(centered), mean, centered.T @ centered)

    @classmethod
    def nothing(cls, dim: int) -> Moments:
        """Moments of no features of width `dim`."""
        return cls(0, torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64))

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
        eigenvalues: (d,) float64, variance along all d axes, in descending order.
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
        """Fraction of the features' variance along the k kept axes, in [0, 1]."""
        return float(self.eigenvalues[: self.dims].sum() / self.eigenvalues.sum())

    def transform(self, features: Tensor) -> Tensor:
        """Transform features (B, d) to coordinates (B, k) float32."""
        return ((features.to(torch.float64) - self.mean) @ self.axes / self.scale).to(torch.float32)


def fit_coordinates(batches: Iterable[Tensor], dims: int | None = None) -> Coordinates:
    """Fit a PCA to batches of features (B, d) and keep at most `dims` axes.

    Axes without variance are dropped, so k is at most N - 1 for N images.

    Args:
        batches: feature batches; each image appears once.
        dims: k; None keeps every axis with variance.

    Raises:
        DataError: fewer than two images, or constant features.
    """
    return coordinates_of(moments_of(batches), dims)


def own_coordinates(features: Tensor, dims: int | None = None) -> Tensor:
    """Compute the coordinates, float32 (N, k), of features (N, d) in the system that is fitted to them.

    Raises:
        DataError: as `fit_coordinates`.
    """
    rows = features.split(ROWS_AT_ONCE)
    coordinates = fit_coordinates(rows, dims)
    return torch.cat([coordinates.transform(part) for part in rows])


def moments_of(batches: Iterable[Tensor]) -> Moments:
    """Moments of batches of features (B, d).

    Raises:
        DataError: no features.
    """
    return merged(map(Moments.of, batches))


def merged(parts: Iterable[Moments]) -> Moments:
    """Moments of the union of disjoint sets; sets without images are left out.

    Raises:
        DataError: no images.
    """
    moments: Moments | None = None
    for part in parts:
        if part.count:
            moments = part if moments is None else moments.merge(part)
    if moments is None:
        raise DataError(TOO_FEW)
    return moments


def coordinates_of(moments: Moments, dims: int | None = None) -> Coordinates:
    """Compute the coordinates from accumulated moments; see `fit_coordinates`."""
    if moments.count < 2:
        raise DataError(TOO_FEW)
    values, vectors = torch.linalg.eigh(moments.scatter / moments.count)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    rank = int((values > values[0] * RELATIVE_RANK_TOLERANCE).sum())
    if values[0] == 0:
        raise DataError("the teacher gives the same feature for every image. Choose another teacher.")
    kept = min(rank, dims or rank, moments.count - 1)
    axes = _with_fixed_signs(vectors[:, :kept])
    return Coordinates(moments.mean, axes, values, scale=float(values.mean().sqrt()))


def random_axes(coordinates: Coordinates, generator: torch.Generator) -> Coordinates:
    """Coordinates of the random-axes ablation: the same mean, scale and k, but random orthonormal axes."""
    shape = coordinates.axes.shape
    gaussian = torch.randn(shape, generator=generator, dtype=torch.float64)
    axes, _ = torch.linalg.qr(gaussian)
    return Coordinates(coordinates.mean, axes, coordinates.eigenvalues, coordinates.scale)


def _with_fixed_signs(axes: Tensor) -> Tensor:
    """Make the largest component of every eigenvector positive, since its sign is arbitrary."""
    largest = axes.abs().argmax(dim=0)
    return axes * axes.gather(0, largest[None, :]).sign()

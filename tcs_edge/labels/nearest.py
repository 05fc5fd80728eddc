"""Nearest neighbors by cosine similarity: exact for few rows, by an inverted file for many.

Exact search compares every row with every other. An inverted file assigns each row to the nearest of sqrt(N)
centers and compares it only with the rows of the `SEARCHED` cells nearest to its own. Memory beside the result is
bounded by `_SIMILARITIES_AT_ONCE` and one cell's rows.

Sources: inverted file, Sivic and Zisserman, "Video Google", ICCV 2003; centers by spherical k-means, Dhillon and
Modha, "Concept Decompositions for Large Sparse Text Data", Machine Learning 42, 2001.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

# Exact search takes minutes for more rows than this.
EXACT_ROWS = 50_000
SEARCHED = 24  # cells
_SIMILARITIES_AT_ONCE = 4_000_000
_ROWS_PER_CENTER = 48  # in the sample that determines the centers
_LLOYD_ROUNDS = 8


def nearest(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return positions, int64 (N, count), and cosines, float32 (N, count), of the nearest other rows of (N, k).

    Above `EXACT_ROWS` rows the search is approximate; equal rows give equal results.

    Args:
        count: neighbors per row, 1..N-1.
    """
    return exact_nearest(rows, count) if len(rows) <= EXACT_ROWS else _by_cells(rows, count)


def exact_nearest(rows: Tensor, count: int, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return what `nearest` does, without approximation.

    Args:
        among: rows (M, k) to search instead of the other rows of (N, k) themselves; `count` is 1..M then.
    """
    unit = _unit(rows)
    others = unit if among is None else _unit(among)
    found, similar = [], []
    for start in range(0, len(unit), chunk := max(1, _SIMILARITIES_AT_ONCE // len(others))):
        part = unit[start : start + chunk] @ others.T
        if among is None:
            part[torch.arange(len(part)), torch.arange(start, start + len(part))] = -torch.inf
        values, indices = part.topk(count, dim=1)
        found.append(indices)
        similar.append(values)
    return torch.cat(found), torch.cat(similar)


def _by_cells(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    centers = _centers(rows, math.isqrt(len(rows)))
    cell_of = _nearest_center(rows, centers)
    order = cell_of.argsort(stable=True)
    members = order.split(torch.bincount(cell_of, minlength=len(centers)).tolist())
    by_distance = (centers @ centers.T).argsort(dim=1, descending=True, stable=True)
    found = torch.empty(len(rows), count, dtype=torch.int64)
    similar = torch.empty(len(rows), count)
    for cell, own in enumerate(members):
        if len(own) == 0:
            continue
        others = _candidates(members, own, by_distance[cell], count)
        unit = _unit(rows[others])
        for part in own.split(max(1, _SIMILARITIES_AT_ONCE // len(others))):
            cosines = _unit(rows[part]) @ unit.T
            cosines[part[:, None] == others[None]] = -torch.inf
            values, indices = cosines.topk(count, dim=1)
            found[part], similar[part] = others[indices], values
    return found, similar


def _candidates(members: tuple[Tensor, ...], own: Tensor, by_distance: Tensor, count: int) -> Tensor:
    """Return the rows of a cell and of the nearest cells, more than `count` in all."""
    chosen, total = [own], len(own)
    for rank, cell in enumerate(by_distance.tolist()):
        if rank >= SEARCHED and total > count:
            break
        if len(members[cell]) and members[cell][0] != own[0]:
            chosen.append(members[cell])
            total += len(members[cell])
    return torch.cat(chosen)


def _centers(rows: Tensor, cells: int) -> Tensor:
    """Fit unit centers (cells, k) to a sample of the rows."""
    generator = torch.Generator().manual_seed(0)
    sample = _unit(rows[torch.randperm(len(rows), generator=generator)[: cells * _ROWS_PER_CENTER]])
    centers = sample[:cells].clone()
    for _ in range(_LLOYD_ROUNDS):
        sums = torch.zeros_like(centers).index_add_(0, _nearest_center(sample, centers), sample)
        empty = sums.norm(dim=1, keepdim=True) == 0
        centers = torch.where(empty, centers, _unit(sums))
    return centers


def _nearest_center(rows: Tensor, centers: Tensor) -> Tensor:
    """Return the position of the nearest center of every row, int64 (N,)."""
    parts = rows.split(max(1, _SIMILARITIES_AT_ONCE // len(centers)))
    return torch.cat([(_unit(part) @ centers.T).argmax(dim=1) for part in parts])


def _unit(rows: Tensor) -> Tensor:
    return normalize(rows.float(), dim=1)

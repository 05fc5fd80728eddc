"""Report of images in two splits: the same bytes, or near copies. Images of one scene are told from copies."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import combinations

import numpy as np

from tcs_edge.data.index import PARTS, Index
from tcs_edge.data.listing import name_some
from tcs_edge.data.near_copies import NearCopies
from tcs_edge.errors import DataError

logger = logging.getLogger(__name__)

# Pairs of like images with different labels, for images of one scene. Copies with 5 % wrong labels are below it.
FEWEST_DIFFERING, OFTEN = 3, 0.25


def show_scenes(pairs: np.ndarray, labels: np.ndarray) -> bool:
    """Return True if the labels of like images differ more than a quarter as often as those of any two images.

    Then the images show one scene, such as that of a fixed camera with small objects, and are not copies.

    Args:
        pairs: int64 (P, 2), positions of like images.
        labels: int (N,), negative for images without one.
    """
    known = labels[pairs][(labels[pairs] >= 0).all(axis=1)]
    differing = int((known[:, 0] != known[:, 1]).sum())
    shares = np.bincount(labels[labels >= 0]) / max(1, int((labels >= 0).sum()))
    chance = 1 - float((shares**2).sum())
    return differing >= FEWEST_DIFFERING and differing > OFTEN * chance * len(known)


def without_scenes(index: Index, near: NearCopies) -> NearCopies:
    """Return the near copies, or none of them if they show one scene."""
    labels = index.labels[np.unique(near.numbers, return_index=True)[1]]
    if not show_scenes(near.pairs, labels):
        return near
    differing = int((labels[near.pairs[:, 0]] != labels[near.pairs[:, 1]]).sum())
    logger.info(
        f"near copies: {differing} of {len(near.pairs)} pairs of like images have different labels, as images of a "
        "fixed camera do. Only equal files count as copies."
    )
    return replace(near, pairs=near.pairs[:0], scenes=True)


def report_leaks(index: Index, near: NearCopies, places: dict[str, np.ndarray], allowed: bool) -> int:
    """Warn about copies in two splits; refuse them in train and test unless `allowed`.

    Args:
        places: positions of the images of each split.

    Returns:
        Number of test images with a copy in train.

    Raises:
        DataError: copies in train and in test.
    """
    leaked = 0
    for seen, graded in combinations(PARTS, 2):
        same = places[graded][np.isin(near.numbers[places[graded]], near.numbers[places[seen]])]
        pairs = near.across(places[seen], np.setdiff1d(places[graded], same))
        _report(seen, graded, _equal_line(index, same, seen, graded), allowed)
        _report(seen, graded, _near_line(index, pairs, seen, graded), allowed)
        if (seen, graded) == ("train", "test"):
            leaked = len(same) + len(pairs)
    return leaked


def _report(seen: str, graded: str, found: str, allowed: bool) -> None:
    if not found:
        return
    line = f"leakage: {found}. Results on {graded} will be too optimistic."
    if (seen, graded) == ("train", "test") and not allowed:
        raise DataError(
            f"{line} Remove the copies (`tcs-edge check` shows them and saves a list for --exclude), or pass "
            "--allow-leaks."
        )
    logger.warning(f"{line} Remove the copies.")


def _equal_line(index: Index, places: np.ndarray, seen: str, graded: str) -> str:
    if not len(places):
        return ""
    return f"{len(places)} images of {graded} are also in {seen}: {name_some(index.names_at(places))}"


def _near_line(index: Index, pairs: np.ndarray, seen: str, graded: str) -> str:
    if not len(pairs):
        return ""
    firsts, seconds = index.names_at(pairs[:, 0]), index.names_at(pairs[:, 1])
    named = name_some([f"{second} ({first})" for first, second in zip(firsts, seconds, strict=True)])
    return f"{len(pairs)} images of {graded} are near copies of images in {seen}: {named}"

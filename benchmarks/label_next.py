"""Accuracy of a linear probe after labeling 50, 100 and 200 images that each strategy chose.

    python benchmarks/label_next.py FEATURES.npz --draws 5 --out results.json

FEATURES.npz has `train` and `val`, float (N, d), of a teacher, and `ytrain` and `yval`, int (N,). Each draw starts
without labels from a random three quarters of the training rows, and adds 50 labels at a time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tcs_edge.labels.next_images import NextImage, next_images, typical_images, uncertainty
from tcs_edge.labels.soft_labels import labeled_probe
from tcs_edge.tcs.coordinates import fit_coordinates

STEP = 50
LABELS = (50, 100, 150, 200)
Choose = Callable[[np.ndarray, np.ndarray, np.ndarray | None, int], list[int]]


def _positions(found: list[NextImage]) -> list[int]:
    return [one.position for one in found]


def random_choice(rows: np.ndarray, labeled: np.ndarray, _: np.ndarray | None, seed: int) -> list[int]:
    free = np.setdiff1d(np.arange(len(rows)), labeled)
    return np.random.default_rng(seed).choice(free, STEP, replace=False).tolist()


def core_set(rows: np.ndarray, labeled: np.ndarray, _: np.ndarray | None, seed: int) -> list[int]:
    """k-center greedy (Sener and Savarese, ICLR 2018)."""
    chosen = [] if len(labeled) else [int(np.random.default_rng(seed).integers(len(rows)))]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    nearest = (unit @ unit[[*labeled, *chosen]].T).max(axis=1)
    while len(chosen) < STEP:
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, unit @ unit[chosen[-1]])
    return chosen


def typiclust(rows: np.ndarray, labeled: np.ndarray, _: np.ndarray | None, seed: int) -> list[int]:
    return _positions(typical_images(rows, labeled, STEP, seed))


def margin(rows: np.ndarray, labeled: np.ndarray, probabilities: np.ndarray | None, seed: int) -> list[int]:
    """Most uncertain first; the first labels are random."""
    if probabilities is None:
        return random_choice(rows, labeled, None, seed)
    free = np.setdiff1d(np.arange(len(rows)), labeled)
    return free[np.argsort(-uncertainty(probabilities)[free], kind="stable")[:STEP]].tolist()


def shipped(rows: np.ndarray, labeled: np.ndarray, probabilities: np.ndarray | None, seed: int) -> list[int]:
    return _positions(next_images(rows, labeled, probabilities, STEP, seed))


STRATEGIES: dict[str, Choose] = {
    "random": random_choice,
    "core-set": core_set,
    "margin": margin,
    "typical": typiclust,
    "label-next": shipped,
}


def accuracies(choose: Choose, data: dict[str, np.ndarray], seed: int) -> list[float]:
    """Accuracy on the val rows after each of `LABELS`."""
    pool = np.sort(np.random.default_rng(seed).permutation(len(data["train"]))[: len(data["train"]) * 3 // 4])
    coordinates = fit_coordinates(torch.from_numpy(data["train"][pool]).split(8192))
    rows = coordinates.transform(torch.from_numpy(data["train"][pool]))
    val = coordinates.transform(torch.from_numpy(data["val"])).numpy()
    truth, classes = data["ytrain"][pool], int(data["ytrain"].max()) + 1
    labeled, probabilities, found = np.empty(0, np.int64), None, []
    for count in LABELS:
        labeled = np.sort(np.append(labeled, choose(rows.numpy(), labeled, probabilities, seed * 100 + count)))
        assert len(np.unique(labeled)) == count
        probe = labeled_probe(rows, truth, labeled, classes)
        found.append(probe.accuracy(val, data["yval"]))
        probabilities = torch.from_numpy(probe.logits(rows.numpy())).softmax(dim=1).numpy()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = dict(np.load(options.features))
    results = {}
    for name in options.only:
        rows = np.array([accuracies(STRATEGIES[name], data, draw) for draw in range(options.draws)])
        mean, deviation = rows.mean(axis=0), rows.std(axis=0, ddof=1 if options.draws > 1 else 0)
        results[name] = {str(count): rows[:, at].tolist() for at, count in enumerate(LABELS)}
        cells = (f"{count}: {100 * mean[at]:.1f} ± {100 * deviation[at]:.1f}" for at, count in enumerate(LABELS))
        print(f"{name:30s} {'  '.join(cells)}", flush=True)
    options.out.write_text(json.dumps({"features": options.features.stem, "accuracy": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

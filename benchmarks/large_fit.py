"""Fit coordinates, the neighbor graph and soft labels on made features of many images; print times and peak memory.

    python benchmarks/large_fit.py --images 200000 --dim 384 --classes 10 --labeled 2000 --out FILE

The features are Gaussian classes in a subspace, in float16 as in the cache of teacher features. One line of JSON is
appended to --out.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from tcs_edge.labels.nearest import EXACT_ROWS, nearest
from tcs_edge.labels.soft_labels import soft_labels
from tcs_edge.tcs.coordinates import fit_coordinates

ROWS = 8192
RANK = 32  # of the features' classes and of most of their noise


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def made_features(images: int, dim: int, classes: int) -> tuple[torch.Tensor, np.ndarray]:
    """Features, float16 (images, dim), and labels, int64 (images,)."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(RANK, dim, generator=generator) / RANK**0.5
    centers = torch.randn(classes, RANK, generator=generator)
    labels = torch.randint(0, classes, (images,), generator=generator)
    rows = torch.empty(images, dim, dtype=torch.float16)
    for part in torch.arange(images).split(ROWS):
        latent = centers[labels[part]] + torch.randn(len(part), RANK, generator=generator)
        rows[part] = (latent @ axes + 0.1 * torch.randn(len(part), dim, generator=generator)).half()
    return rows, labels.numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--labeled", type=int, default=2_000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    facts: dict[str, float] = {name: getattr(options, name) for name in ("images", "dim", "classes", "labeled")}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        start = time.process_time()
        yield
        facts[f"{stage}_cpu_s"] = round(time.process_time() - start, 1)
        facts[f"{stage}_peak_mb"] = round(peak_mb())
        print(f"{stage}: {facts[f'{stage}_cpu_s']} CPU s, peak {facts[f'{stage}_peak_mb']} MB", flush=True)

    with timed("features"):
        features, labels = made_features(options.images, options.dim, options.classes)
    with timed("coordinates"):
        coordinates = fit_coordinates(features.split(ROWS))
        rows = torch.cat([coordinates.transform(part).half() for part in features.split(ROWS)])
    del features
    with timed("neighbors"):
        found, _ = nearest(rows, 10)
    facts["recall"] = recall(rows, found)
    facts["exact_up_to"] = EXACT_ROWS
    del found
    labeled = np.random.default_rng(0).permutation(options.images)[: options.labeled]
    with timed("soft_labels"):
        soft = soft_labels({"teacher": rows}, labels, np.sort(labeled), options.classes)
    facts["accuracy"] = round(float((soft.logits.argmax(dim=1).numpy() == labels).mean()), 4)
    with options.out.open("a") as lines:
        lines.write(json.dumps(facts) + "\n")
    print(json.dumps(facts))


def recall(rows: torch.Tensor, found: torch.Tensor, sample: int = 100) -> float:
    """Fraction of the true nearest neighbors of `sample` rows among the found ones."""
    chosen = torch.arange(0, len(rows), max(1, len(rows) // sample))
    unit = normalize(rows[chosen].float(), dim=1)
    cosines = torch.cat([unit @ normalize(part.float(), dim=1).T for part in rows.split(ROWS)], dim=1)
    cosines[torch.arange(len(chosen)), chosen] = -torch.inf
    true = cosines.topk(found.shape[1], dim=1).indices
    return round(float((true[:, :, None] == found[chosen][:, None, :]).any(dim=2).float().mean()), 4)


if __name__ == "__main__":
    main()

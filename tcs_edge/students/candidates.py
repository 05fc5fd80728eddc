"""The students tcs-edge chooses from: small timm image classifiers and the facts about them.

Made by benchmarks/candidate_facts.py from the models themselves; a test compares both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tcs_edge.errors import UnknownName

BYTES_PER_WEIGHT = 4
GRAPH_BYTES_PER_MODEL = 100_000

Kind = Literal["cnn", "hybrid", "transformer", "unknown"]


@dataclass(frozen=True)
class Candidate:
    """A student backbone.

    `params_m` (millions) and `macs_m` (10^6 multiply-accumulates, one 224 x 224 image) are those of the
    deployed backbone: without classifier, parallel training branches folded. `weights` is timm's full name
    of the pretrained weights, `top1` their published ImageNet-1k accuracy in percent at `top1_img_size`
    pixels; all three are None where no pretrained weights are known.
    """

    name: str
    kind: Kind
    params_m: float
    feature_dim: int
    macs_m: float
    weights: str | None = None
    top1: float | None = None
    top1_img_size: int | None = None
    licence: str | None = None

    def total_params_m(self, num_classes: int) -> float:
        """Millions of parameters with the final Linear(feature_dim, num_classes)."""
        return self.params_m + (self.feature_dim + 1) * num_classes / 1e6

    def size_mb(self, num_classes: int) -> float:
        """Estimated size of the fp32 ONNX file in 10^6 bytes, head and graph included."""
        weights = self.total_params_m(num_classes) * BYTES_PER_WEIGHT
        return weights + GRAPH_BYTES_PER_MODEL / 1e6


# fmt: off
CANDIDATES: dict[str, Candidate] = {
}
# fmt: on


def find_candidate(name: str) -> Candidate:
    """The registered candidate of this name.

    Raises:
        UnknownName: the registry does not hold it.
    """
    if name not in CANDIDATES:
        raise UnknownName("student", name, CANDIDATES)
    return CANDIDATES[name]

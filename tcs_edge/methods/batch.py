"""What a training step is about: images, their labels, which training images they are, how they were mixed.

Mixing images mixes their targets with the same share. Methods ask a `Batch` to blend what they look
up per image and to weigh both labels; none of them knows how images were mixed, or whether they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tcs_edge.data.images import UNLABELED


@dataclass(frozen=True)
class Mix:
    """Row i of a mixed batch: share x row i + (1 - share) x row partner[i] (mixup, arXiv 1710.09412, eq. 1).

    Attributes:
        partner: (B,) int64, a permutation of the batch's rows.
        share: () float32 in [0, 1], the paper's lambda; one for the whole batch.
    """

    partner: Tensor
    share: Tensor

    def blend(self, rows: Tensor) -> Tensor:
        """Anything with one row per image, (B, ...) floating point, as it is for the mixed images."""
        return self.share * rows + (1 - self.share) * rows[self.partner]


@dataclass(frozen=True)
class Batch:
    """One training step's images and what is known of them.

    Attributes:
        images: (B, 3, S, S), normalized; already mixed where there is a `mix`.
        labels: (B,) int64 of the images before mixing; `UNLABELED` where an image has none.
        index: (B,) int64, which training image each row is, before mixing.
        mix: how rows were mixed; None where they were not.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    mix: Mix | None = None

    def mixed(self, mix: Mix) -> Batch:
        """This batch with its images mixed; labels and index stay those of the unmixed rows."""
        return replace(self, images=mix.blend(self.images), mix=mix)

    def blend(self, rows: Tensor) -> Tensor:
        """Targets (B, ...) that were looked up by `index`, mixed as the images are."""
        return rows if self.mix is None else self.mix.blend(rows)

    def over_labels(self, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """loss(labels); where images are mixed, that of both labels, weighted by their shares."""
        if self.mix is None:
            return loss(self.labels)
        share, theirs = self.mix.share, self.labels[self.mix.partner]
        return share * loss(self.labels) + (1 - share) * loss(theirs)


def label_loss(logits: Tensor, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, classes), mean over the images that have a label; 0 where none has."""
    logits = logits.float()

    def loss(labels: Tensor) -> Tensor:
        each = cross_entropy(logits, labels, ignore_index=UNLABELED, reduction="none", label_smoothing=label_smoothing)
        return labeled_mean(each, labels)

    return batch.over_labels(loss)


def labeled_mean(values: Tensor, labels: Tensor) -> Tensor:
    """Mean of values (B,) over the rows that have a label; 0 where none has."""
    labeled = labels != UNLABELED
    return torch.where(labeled, values, 0).sum() / labeled.sum().clamp_min(1)

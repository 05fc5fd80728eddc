"""Batch of a training step: images, labels, indices of the training images, and how rows are mixed.

Mixing images mixes their targets with the same share. A method calls `Batch.blend` on the targets of its images
and `Batch.over_labels` for a loss of labels. So no method depends on the way of mixing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tcs_edge.data.images import UNLABELED


@dataclass(frozen=True)
class Mix:
    """Mixup of a batch: row i becomes share x row i + (1 - share) x row partner[i] (arXiv 1710.09412, eq. 1).

    Attributes:
        partner: (B,) int64, a permutation of the batch's rows.
        share: () float32 in [0, 1], the paper's lambda; one for the whole batch.
    """

    partner: Tensor
    share: Tensor

    def blend(self, rows: Tensor) -> Tensor:
        """Return `rows`, (B, ...) floating point with one row per image, for the mixed images."""
        return self.share * rows + (1 - self.share) * rows[self.partner]


@dataclass(frozen=True)
class Batch:
    """Images of one training step, with their labels and indices.

    Attributes:
        images: (B, 3, S, S), normalized; already mixed where there is a `mix`.
        labels: (B,) int64 of the images before mixing; `UNLABELED` where an image has none.
        index: (B,) int64, index of the training image of each row, before mixing.
        mix: the mix of the rows; None for plain rows.
        rows: rows of the images from the method's tables, before mixing, by `RowsModule.gathered`.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    mix: Mix | None = None
    rows: Mapping[str, Tensor] = field(default_factory=dict)

    def mixed(self, mix: Mix) -> Batch:
        """Return this batch with its images mixed; labels and index stay unmixed."""
        return replace(self, images=mix.blend(self.images), mix=mix)

    def blend(self, rows: Tensor) -> Tensor:
        """Return targets (B, ...) of its images, mixed as the images are."""
        return rows if self.mix is None else self.mix.blend(rows)

    def over_labels(self, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """Return loss(labels); for mixed images, the losses of both labels weighted by their shares."""
        if self.mix is None:
            return loss(self.labels)
        share, partner_labels = self.mix.share, self.labels[self.mix.partner]
        return share * loss(self.labels) + (1 - share) * loss(partner_labels)


def label_loss(logits: Tensor, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, classes): the mean over images with a label, 0 without any."""
    logits = logits.float()

    def loss(labels: Tensor) -> Tensor:
        each = cross_entropy(logits, labels, ignore_index=UNLABELED, reduction="none", label_smoothing=label_smoothing)
        return labeled_mean(each, labels)

    return batch.over_labels(loss)


def labeled_mean(values: Tensor, labels: Tensor) -> Tensor:
    """Mean of values (B,) over the rows with a label; 0 without any."""
    labeled = labels != UNLABELED
    return torch.where(labeled, values, 0).sum() / labeled.sum().clamp_min(1)

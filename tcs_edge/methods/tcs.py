"""TCS: learn the task in the teacher's coordinate system, without the teacher in memory.

Loss of an image = task + weight x mimicking. The task of an image with a label is
(1 - soft_share) x cross-entropy + soft_share x soft label; without a label it is the soft label alone. So images
without labels never weaken the labels of others. The mimicking loss
compares the student's coordinates h with the teacher's z of the same image. It compares hash bits (eLSH), position
(MSE), direction (cosine), or bits and position (LSHL2 of arXiv 2011.01424). Behind a trainable adapter, cross-entropy
alone makes PCA axes a no-op (docs/explanation/method.md), so mimicking is on by default. A warm-up by mimicking
alone is an experiment (docs/explanation/decisions/0021).

A linear probe in the coordinates plays the part of SimKD's reused classifier, without a projector. The
classifier W starts as the probe, and the probe's logits of z are the soft labels. With pretrained weights, the
soft labels are a mean with a probe on the student's own features. Neither use needs the image's label, and both
still fold into one layer.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity, cross_entropy

from tcs_edge.data.images import UNLABELED
from tcs_edge.methods.base import Losses, Method, MethodInputs
from tcs_edge.methods.batch import Batch, label_loss
from tcs_edge.methods.kd import softened_kl_by_image
from tcs_edge.tcs.hashing import fit_hashing, packed_bits, unpack
from tcs_edge.tcs.head import LinearHead, TcsHead
from tcs_edge.tcs.selection import Pruning, SelectionSchedule

logger = logging.getLogger(__name__)

Mimic = Literal["cosine", "mse", "lsh", "lsh+mse", "none"]

# AdamW rate of one linear layer on the features in a short run (docs/explanation/decisions/0007).
LR_OF_ONE_LAYER = 2e-3


class Tcs(Method):
    """Adapter, trainable mask and classifier over k coordinates, with cached targets.

    Args:
        features: d_s, width of the student's backbone.
        classes: number of classes.
        targets: (N, k) teacher coordinates of the training images, row i for image i.
        schedule: rounds of iterative feature selection, in shares of the steps after `mimic_warmup`.
        mimic: the mimicking loss; `weight` multiplies it.
        mimic_warmup: first share of all steps, with the mimicking loss alone, in [0, 1); 0 without mimicking.
        hash_bits: M, for the losses that use hashing.
        probe: Linear(k, classes) in the teacher's coordinates that W starts as; None starts at random.
        soft_labels: (N, classes) logits of the training images, for the loss T^2 KL(soft label || student) of `kd`.
            None: the task is cross-entropy on the labels alone.
        soft_share: share of the soft label in the task of an image with a label, in [0, 1].
        temperature: T > 0.
        linear_head: True classifies the backbone's features instead of the coordinates.
        seed: random seed of the hash directions.
    """

    name = "tcs"
    targets: Tensor
    soft_labels: Tensor | None
    directions: Tensor
    bias: Tensor
    packed: Tensor
    warmed_up: Tensor

    def __init__(
        self,
        features: int,
        classes: int,
        targets: Tensor,
        schedule: SelectionSchedule,
        mimic: Mimic = "cosine",
        weight: float = 1.0,
        hash_bits: int = 1024,
        label_smoothing: float = 0.0,
        probe: nn.Linear | None = None,
        soft_labels: Tensor | None = None,
        soft_share: float = 0.0,
        temperature: float = 4.0,
        mimic_warmup: float = 0.0,
        linear_head: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.mimic_warmup = mimic_warmup if weight and mimic != "none" else 0.0
        self.register_buffer("warmed_up", torch.tensor(not self.mimic_warmup))
        dims = targets.shape[1]
        self.head: LinearHead | TcsHead
        if linear_head:
            self.head, self._gain = LinearHead(features, dims, classes), 1.0
        else:
            self.head = TcsHead(features, dims, classes, schedule.after(self.mimic_warmup), start=probe)
            self._gain = max(1.0, float(self.head.classifier.weight.detach().abs().sum(dim=1).mean()))
        self.soft_share, self.temperature = soft_share, temperature
        self.mimic, self.weight = mimic, weight
        self.hash_bits, self.seed = hash_bits, seed
        self.label_smoothing = label_smoothing
        self.keep_rows("targets", targets.to(torch.float16))
        half = None if soft_labels is None else soft_labels.to(torch.float16)
        self.keep_rows("soft_labels", half)
        if "lsh" in mimic:
            for name in ("directions", "bias"):
                self.register_buffer(name, torch.empty(0), persistent=False)
            self.keep_rows("packed", torch.empty(0))
            self._rehash()

    def losses(self, backbone: nn.Module, batch: Batch) -> Losses:
        logits, coordinates = self.head(backbone(batch.images))
        total, parts = self._task(logits.float(), batch)
        if self.mimic != "none":
            mimicking = self._mimicking(coordinates.float(), batch)
            total, parts["mimic"] = self.warmed_up * total + self.weight * mimicking, mimicking.detach()
        return Losses(total, parts)

    def logits(self, backbone: nn.Module, images: Tensor) -> Tensor:
        return self.head(backbone(images))[0]

    def deployed(self, backbone: nn.Module) -> nn.Module:
        return nn.Sequential(backbone, self.head.fold())

    def head_lr(self, lr: float) -> float:
        """Return min(lr, max(lr, 2e-3) / n), with n = max(1, mean ||W_c||_1) as training starts; 1 for a linear head.

        A step of AdamW moves every weight by about the learning rate lr. So it moves a coordinate by lr ||g||_1 and
        a logit by lr ||g||_1 ||W_c||_1. Behind an adapter, logits would move ||W_c||_1 times faster than with one
        Linear on the backbone, and short runs lost accuracy. One Linear trains well at 2e-3. A lower rate of the
        backbone does not slow the head down (docs/explanation/decisions/0007 and 0010).
        """
        return min(lr, max(lr, LR_OF_ONE_LAYER) / self._gain)

    def after_backward(self, step: int, total_steps: int) -> None:
        warmup_steps = self.mimic_warmup * total_steps
        self.warmed_up.fill_(step + 1 >= warmup_steps)
        if step < warmup_steps <= step + 1:
            logger.info("mimic warm-up: done, the loss now includes the labels")
        rounds = len(self.head.selection.history)
        self.head.selection.after_backward(step, total_steps)
        if len(self.head.selection.history) > rounds and "lsh" in self.mimic:
            self._rehash()

    def history(self) -> list[dict[str, Any]]:
        return [pruning.to_json() for pruning in self.head.selection.history]

    def restore_history(self, events: list[dict[str, Any]]) -> None:
        self.head.selection.history = [Pruning.from_json(event) for event in events]
        if "lsh" in self.mimic:
            self._rehash()

    def _task(self, logits: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of the labels and the soft labels, with its parts."""
        labels_alone = label_loss(logits, batch, self.label_smoothing)
        if self.soft_labels is None:
            return labels_alone, {"ce": labels_alone.detach()}
        target = batch.blend(self.rows_of("soft_labels", batch).float())
        soft = softened_kl_by_image(logits, target, self.temperature)

        def task(labels: Tensor) -> Tensor:
            hard = cross_entropy(
                logits, labels, ignore_index=UNLABELED, reduction="none", label_smoothing=self.label_smoothing
            )
            mixed = (1 - self.soft_share) * hard + self.soft_share * soft
            return torch.where(labels == UNLABELED, soft, mixed).mean()

        return batch.over_labels(task), {"ce": labels_alone.detach(), "soft": soft.mean().detach()}

    def _mimicking(self, coordinates: Tensor, batch: Batch) -> Tensor:
        alive = self.head.selection.alive
        target = batch.blend(self.rows_of("targets", batch).float()) * alive
        coordinates = coordinates * alive
        loss = coordinates.new_zeros(())
        if self.mimic == "cosine":
            loss = (1 - cosine_similarity(coordinates, target, dim=1)).mean()
        if "mse" in self.mimic:
            # Relative to the batch's own spread: predicting zero costs 1 at any k.
            loss = (coordinates - target).square().sum() / target.square().sum().clamp_min(1e-12)
        if "lsh" in self.mimic:
            bits = batch.blend(unpack(self.rows_of("packed", batch), self.hash_bits))
            loss = loss + binary_cross_entropy_with_logits(coordinates @ self.directions + self.bias, bits)
        return loss

    def _rehash(self) -> None:
        """Hash the coordinates still alive, so that removed ones do not affect the bits."""
        generator = torch.Generator().manual_seed(self.seed)
        alive = self.head.selection.alive
        targets = self.targets.float() * alive.cpu()
        hashing = fit_hashing(targets, self.hash_bits, generator)
        self.directions = hashing.directions.to(alive.device)
        self.bias = hashing.bias.to(alive.device)
        self.packed = packed_bits(hashing, targets)


def build(inputs: MethodInputs) -> Tcs:
    """Return the method for a run."""
    tcs, targets = inputs.options.tcs, inputs.teacher_targets
    by: Literal["importance", "variance"] = "variance" if tcs.ablation == "top-variance" else "importance"
    return Tcs(
        inputs.feature_dim,
        inputs.classes,
        targets.cached(),
        SelectionSchedule(kept_fraction=tcs.kept_fraction, by=by),
        mimic=tcs.mimic,
        weight=tcs.mimic_weight,
        mimic_warmup=tcs.mimic_warmup,
        hash_bits=tcs.hash_bits,
        probe=targets.probe if tcs.probe_start else None,
        soft_labels=targets.soft_labels,
        soft_share=targets.soft_share,
        temperature=tcs.temperature,
        linear_head=tcs.head == "linear",
        label_smoothing=inputs.label_smoothing,
        seed=inputs.options.seed,
    )

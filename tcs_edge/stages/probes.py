"""Linear probes of a run: on the teacher's features, on the student's own before training, and both pooled."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.data.images import Split
from tcs_edge.data.loader import evaluation_loader
from tcs_edge.labels.linear_probe import LinearProbe, fit_linear_probe
from tcs_edge.labels.nearest import EXACT_ROWS
from tcs_edge.labels.soft_labels import SoftLabels, soft_labels, soft_share
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.students.features import features_before_training
from tcs_edge.tcs.coordinates import own_coordinates
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

TEACHER, STUDENT = "teacher", "student"  # sources of soft labels


def pools_student_probe(options: ResolvedConfig) -> bool:
    """Return True if the soft labels also come from a probe on the student's own features."""
    return options.soft_labels_from == "pooled" and options.student_init != "random"


def pooled_soft_labels(
    coordinates: Tensor, images: ImageSet, preprocess: Preprocess, backbone: nn.Module | None, options: ResolvedConfig
) -> SoftLabels:
    """Compute soft labels of the training images from a probe in the teacher's coordinates.

    With pretrained weights, a probe on the student's own features before training is pooled with it.

    Args:
        coordinates: the teacher's, (N, k).
        backbone: the student before training; None leaves its probe out.
    """
    sources = {TEACHER: coordinates}
    labeled, classes = images.train.labeled, len(images.classes)
    if backbone is not None and pools_student_probe(options):
        own = _own_coordinates(backbone, images, preprocess, options)
        sources |= {} if own is None else {STUDENT: own}
    neighbors = options.tcs.label_propagation and len(labeled) < len(coordinates)
    if neighbors and len(coordinates) > EXACT_ROWS:
        logger.info(f"label propagation: approximate neighbors ({len(coordinates)} images, exact up to {EXACT_ROWS})")
    found = soft_labels(sources, images.train.labels, labeled, classes, neighbors)
    if neighbors or len(sources) > 1:
        for name in sources:
            logger.info(f"soft labels: {_source_line(found, name)}")
    return found


def measured_soft_share(found: SoftLabels, images: ImageSet) -> float:
    """Return the share of the soft label in the loss of a labeled image; see `labels.soft_labels.soft_share`."""
    accuracy = found.heldout_accuracy
    share = soft_share(images.train.labeled_fraction, accuracy.get(TEACHER), accuracy.get(STUDENT))
    logger.info(f"soft labels: {100 * share:.0f} % of the loss of a labeled image")
    return share


def fit_own_probe(
    backbone: nn.Module, images: ImageSet, preprocess: Preprocess, options: ResolvedConfig
) -> tuple[LinearProbe, Tensor]:
    """Fit a linear probe on the student's features of the labeled images; return it with logits of all, (N, classes).

    Raises:
        DataError: features that are not finite in fp16.
    """
    features = own_features(backbone, images.train, preprocess, options).numpy()
    labeled = images.train.labeled
    probe = fit_linear_probe(features[labeled], images.train.labels[labeled], len(images.classes))
    if len(images.val):
        accuracy = probe.accuracy(own_features(backbone, images.val, preprocess, options).numpy(), images.val.labels)
        logger.info(f"student probe before training: validation accuracy {100 * accuracy:.1f} %")
    return probe, torch.from_numpy(probe.logits(features))


def own_features(backbone: nn.Module, split: Split, preprocess: Preprocess, options: ResolvedConfig) -> Tensor:
    """Compute features of the student before training, float16 (N, d).

    Raises:
        DataError: features that are not finite in fp16.
    """
    loader = evaluation_loader(split, preprocess, options.batch_size, options.workers, exact=False)
    pixels = (batch for batch, _, _ in track(loader, "student features before training", total=len(loader)))
    device = make_accelerator(options.device).device
    origin = f"{options.student} ({options.student_init})"
    return torch.from_numpy(features_before_training(backbone, pixels, device, origin))


def as_linear(probe: LinearProbe) -> nn.Linear:
    """Return the probe as a frozen layer."""
    linear = nn.Linear(probe.weight.shape[1], probe.weight.shape[0])
    linear.weight.data = torch.from_numpy(probe.weight)
    linear.bias.data = torch.from_numpy(probe.bias)
    return linear.requires_grad_(False)


def _source_line(found: SoftLabels, source: str) -> str:
    accuracy = found.heldout_accuracy.get(source)
    heldout = "no held-out labels" if accuracy is None else f"held-out accuracy {100 * accuracy:.0f} %"
    share = f"propagation {found.shares[source]:g}" if found.shares[source] else "no propagation"
    return f"{source} probe {100 * found.weights[source]:.0f} % ({heldout}, {share})"


def _own_coordinates(
    backbone: nn.Module, images: ImageSet, preprocess: Preprocess, options: ResolvedConfig
) -> Tensor | None:
    """Coordinates (N, k) of the student's own features before training, with `options.tcs.dims` axes at most.

    None where all images have identical features; with untrained weights they may underflow.
    """
    features = own_features(backbone, images.train, preprocess, options)
    if torch.equal(features, features[:1].expand_as(features)):
        logger.info("soft labels: no student probe (identical features for all images)")
        return None
    return own_coordinates(features, options.tcs.dims)

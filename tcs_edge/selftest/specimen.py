"""Make a good export to break: a student with random weights whose outputs differ between classes."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tcs_edge.data import ImageSet, Preprocess, Split
from tcs_edge.data.digits import digits
from tcs_edge.export.onnx import export_onnx
from tcs_edge.export.own_formats import export_own_formats
from tcs_edge.export.preprocess import write_labels, write_preprocess
from tcs_edge.students.build import build_student, deployable, student_mean_std
from tcs_edge.students.embedding import StudentWithEmbedding
from tcs_edge.utils.quiet import quiet

IMG_SIZE = 64  # the smallest size that every candidate takes
HEIGHT, WIDTH = 72, 90  # of the images; not square, so that the position of the crop matters
TRAIN_IMAGES, TEST_IMAGES = 256, 48
EMBEDDED_IMAGES = 32  # whose features give the axes of an embedding
RIDGE = 1e-2  # of the features' mean square, to keep the closed-form classifier well conditioned
LOGIT_SCALE = 10.0
SHIFTS = (1.0, 0.5, 0.25, 0.0)  # of batch norms, in standard deviations
HARMLESS = 1e-5  # rounding well below the float32 limit of 1e-4
INITIAL_SCALE, TRAINED_SCALE = 1e-3, 0.5  # scale of a residual branch at initialization, and as after training


@dataclass(frozen=True)
class Specimen:
    """A student and its exports, as `compress` writes them; `images.train` are for calibration."""

    name: str
    model: nn.Module
    exports: Path
    images: ImageSet
    preprocess: Preprocess


def make_specimen(name: str, folder: Path, seed: int = 0, embedding: bool = False) -> Specimen:
    """Build, fit and export the student `name` into `folder`/good.

    Nothing is trained. The backbone keeps its random weights. Its batch norms are set from real images, and a
    linear classifier is fitted in closed form, so that images get different classes with realistic margins.

    Raises:
        UnknownName, UsageError: no such student, or one that does not take images of this size.
    """
    images = colored_digits(seed)
    mean, std = student_mean_std(name)
    preprocess = Preprocess(IMG_SIZE, crop_pct=0.9, mean=mean, std=std)
    pixels = torch.from_numpy(np.stack([preprocess(images.train.image(row)) for row in range(len(images.train))]))
    model = _fitted(build_student(name, IMG_SIZE, "random", seed), pixels, images.train.labels)
    if embedding:
        model = StudentWithEmbedding(model, _coordinates(model, pixels[:EMBEDDED_IMAGES])).eval()
    exports = folder / "good"
    _export(model, exports, images.classes, preprocess)
    return Specimen(name, model, exports, images, preprocess)


@torch.no_grad()
def _coordinates(model: nn.Module, pixels: Tensor) -> nn.Linear:
    """Return principal axes of the features of some images, as Linear(d_s, k)."""
    features = model[0](pixels)
    center = features.mean(dim=0)
    axes = torch.linalg.svd(features - center, full_matrices=False).Vh[: len(pixels) // 2]
    linear = nn.Linear(features.shape[1], len(axes))
    linear.weight.copy_(axes)
    linear.bias.copy_(-(axes @ center))
    return linear


def colored_digits(seed: int = 0) -> ImageSet:
    """Return the built-in digits in color: each class with its own ink and paper, on images that are not square."""
    plain = digits()
    rng = np.random.default_rng(seed)
    inks, papers = rng.integers(0, 256, (2, len(plain.classes), 3))
    train = _colored(plain.train.subset(range(TRAIN_IMAGES)), inks, papers, rng)
    test = _colored(plain.test.subset(range(TEST_IMAGES)), inks, papers, rng)
    return ImageSet("colored digits", plain.classes, train, test, test, fingerprint=f"colored digits, seed {seed}")


def _colored(split: Split, inks: np.ndarray, papers: np.ndarray, rng: np.random.Generator) -> Split:
    images = []
    for row, label in enumerate(split.labels):
        gray = np.asarray(split.image(row).convert("L").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        share = gray[..., None] / 255
        color = papers[label] * (1 - share) + inks[label] * share + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
        images.append(color.clip(0, 255).astype(np.uint8))
    return Split(np.stack(images), split.labels, split.names)


@torch.no_grad()
def _fitted(backbone: nn.Module, pixels: Tensor, labels: np.ndarray) -> nn.Module:
    _scale_up_branches(backbone)
    _set_batch_norms(backbone, pixels)
    features = torch.cat([backbone(part) for part in pixels.split(32)]).double()
    linear = nn.Linear(features.shape[1], int(labels.max()) + 1)
    center = features.mean(dim=0)
    centered = features - center
    targets = nn.functional.one_hot(torch.from_numpy(labels)).double()
    wanted = LOGIT_SCALE * (targets - targets.mean(dim=0))
    # The dual form, because there are fewer images than features.
    gram = centered @ centered.T
    weights = centered.T @ torch.linalg.solve(gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram)), wanted)
    linear.weight.copy_(weights.T)
    linear.bias.copy_(-(center @ weights))
    return nn.Sequential(deployable(backbone), linear).eval()


def _scale_up_branches(backbone: nn.Module) -> None:
    """Scale up residual branches that start at zero, because faults in them would have no effect."""
    for name, scale in backbone.named_parameters():
        is_vector = scale.numel() == max(scale.shape, default=1)
        if is_vector and not name.endswith(("bias", "token")) and scale.abs().max() < INITIAL_SCALE:
            scale.fill_(TRAINED_SCALE)


def _set_batch_norms(backbone: nn.Module, pixels: Tensor) -> None:
    """Set the statistics of the batch norms from real images; otherwise activations vanish or explode.

    Centered outputs make an untrained network chaotic: every layer amplifies differences by up to 1.2 (Yang et al.
    2019, A Mean Field Theory of Batch Normalization). After 60 layers rounding looks like a fault. With shifted
    outputs most values pass the next activation unchanged, and differences do not grow. But where branches are
    added, the shift grows until images differ in the last digits only. The first of a few shifts with harmless
    rounding is therefore used, or else the shift with the least rounding.
    """
    backbone.eval()
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    tried: dict[float, float] = {}
    for shift in SHIFTS:
        rounding = _rounding(_shift(backbone, norms, shift, pixels), pixels)
        if rounding < HARMLESS:
            return
        tried[rounding] = shift
    _shift(backbone, norms, tried[min(tried)], pixels)


def _shift(backbone: nn.Module, norms: Sequence[_BatchNorm], shift: float, pixels: Tensor) -> nn.Module:
    """Set every batch norm to an output of mean `shift` and deviation 1 on 64 images; return `backbone`."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.bias.fill_(shift)
        norm.momentum = 1.0
    backbone.train()(pixels[:64])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return backbone.eval()


def _rounding(backbone: nn.Module, pixels: Tensor) -> float:
    """Return the float32 rounding of the features of 16 images, relative to the differences between images."""
    exact = deepcopy(backbone).double()(pixels[:16].double())
    apart = (exact - exact.mean(dim=0)).abs().max()
    return float((backbone(pixels[:16]) - exact).abs().max() / apart.clamp_min(1e-12))


def _export(model: nn.Module, exports: Path, classes: tuple[str, ...], preprocess: Preprocess) -> None:
    steps = preprocess.to_json()
    with quiet("timm"):
        export_onnx(
            model, exports / "model.onnx", preprocess.img_size, labels=classes, preprocess=steps,
            embedding_size=model.embedding_size if isinstance(model, StudentWithEmbedding) else 0,
        )  # fmt: skip
    export_own_formats(exports)
    write_labels(exports / "labels.txt", classes)
    write_preprocess(exports / "preprocess.json", steps)

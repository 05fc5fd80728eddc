"""A good artifact to break: a student with random weights whose answers can be told apart, exported."""

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
from tcs_edge.utils.quiet import quiet

IMG_SIZE = 64  # small, and large enough for every candidate
HEIGHT, WIDTH = 72, 90  # of the pictures: not square, so that the crop's place shows
TRAIN_IMAGES, TEST_IMAGES = 256, 48
RIDGE = 1e-2  # of the features' mean square: the closed-form classifier stays well conditioned
LOGIT_SCALE = 10.0
SHIFTS = (1.0, 0.5, 0.25, 0.0)  # of batch norms, in standard deviations
HARMLESS = 1e-5  # rounding that the float32 limit of 1e-4 leaves room for
ASLEEP, AWAKE = 1e-3, 0.5  # the scale of a residual branch as architectures start it, and as training may leave it


@dataclass(frozen=True)
class Specimen:
    """A student and its exports, as `compress` would leave them; `images.train` are for calibration."""

    name: str
    model: nn.Module
    exports: Path
    images: ImageSet
    preprocess: Preprocess


def make_specimen(name: str, folder: Path, seed: int = 0) -> Specimen:
    """Build, fit and export the student `name` into `folder`/good.

    The backbone keeps its random weights; its batch norms are set by real pictures and a linear classifier is
    fitted in closed form, so that images get different classes with real margins. Nothing is trained.

    Raises:
        UnknownName, UsageError: no such student, or one that cannot take images of this size.
    """
    images = colored_digits(seed)
    mean, std = student_mean_std(name)
    preprocess = Preprocess(IMG_SIZE, crop_pct=0.9, mean=mean, std=std)
    pixels = torch.from_numpy(np.stack([preprocess(images.train.image(row)) for row in range(len(images.train))]))
    model = _fitted(build_student(name, IMG_SIZE, "random", seed), pixels, images.train.labels)
    exports = folder / "good"
    _export(model, exports, images.classes, preprocess)
    return Specimen(name, model, exports, images, preprocess)


def colored_digits(seed: int = 0) -> ImageSet:
    """The built-in digits in color: every class with its own ink and paper, on pictures that are not square."""
    plain = digits()
    rng = np.random.default_rng(seed)
    inks, papers = rng.integers(0, 256, (2, len(plain.classes), 3))
    train = _colored(plain.train.subset(range(TRAIN_IMAGES)), inks, papers, rng)
    test = _colored(plain.test.subset(range(TEST_IMAGES)), inks, papers, rng)
    return ImageSet("colored digits", plain.classes, train, test, test, fingerprint=f"colored digits, seed {seed}")


def _colored(split: Split, inks: np.ndarray, papers: np.ndarray, rng: np.random.Generator) -> Split:
    pictures = []
    for row, label in enumerate(split.labels):
        gray = np.asarray(split.image(row).convert("L").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        share = gray[..., None] / 255
        color = papers[label] * (1 - share) + inks[label] * share + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
        pictures.append(color.clip(0, 255).astype(np.uint8))
    return Split(np.stack(pictures), split.labels, split.names)


@torch.no_grad()
def _fitted(backbone: nn.Module, pixels: Tensor, labels: np.ndarray) -> nn.Module:
    _wake_branches(backbone)
    _set_batch_norms(backbone, pixels)
    features = torch.cat([backbone(part) for part in pixels.split(32)]).double()
    linear = nn.Linear(features.shape[1], int(labels.max()) + 1)
    center = features.mean(dim=0)
    centered = features - center
    targets = nn.functional.one_hot(torch.from_numpy(labels)).double()
    wanted = LOGIT_SCALE * (targets - targets.mean(dim=0))
    # The dual form: there are fewer pictures than features.
    gram = centered @ centered.T
    weights = centered.T @ torch.linalg.solve(gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram)), wanted)
    linear.weight.copy_(weights.T)
    linear.bias.copy_(-(center @ weights))
    return nn.Sequential(deployable(backbone), linear).eval()


def _wake_branches(backbone: nn.Module) -> None:
    """Open the residual branches whose scale starts at zero: what happens in them would never show."""
    for name, scale in backbone.named_parameters():
        is_vector = scale.numel() == max(scale.shape, default=1)
        if is_vector and not name.endswith(("bias", "token")) and scale.abs().max() < ASLEEP:
            scale.fill_(AWAKE)


def _set_batch_norms(backbone: nn.Module, pixels: Tensor) -> None:
    """Batch statistics of real pictures; with those of untrained noise, activations vanish or explode.

    Centerd ones make an untrained network chaotic: every layer amplifies what differs by up to 1.2 (Yang et al.
    2019, A Mean Field Theory of Batch Normalization), so that after 60 layers rounding looks like a fault. Shifted,
    most values pass the activation behind as they are, and differences do not grow; but where branches add up, the
    shift grows until pictures differ in the last digits only. So the first of a few shifts is taken at which
    rounding is harmless, or else that at which it matters least.
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
    """`backbone` with every batch norm's output of mean `shift` and deviation 1, as far as 64 pictures tell."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.bias.fill_(shift)
        norm.momentum = 1.0
    backbone.train()(pixels[:64])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return backbone.eval()


def _rounding(backbone: nn.Module, pixels: Tensor) -> float:
    """What float32 changes about the features of 16 pictures, relative to what tells them apart."""
    exact = deepcopy(backbone).double()(pixels[:16].double())
    apart = (exact - exact.mean(dim=0)).abs().max()
    return float((backbone(pixels[:16]) - exact).abs().max() / apart.clamp_min(1e-12))


def _export(model: nn.Module, exports: Path, classes: tuple[str, ...], preprocess: Preprocess) -> None:
    steps = preprocess.to_json()
    with quiet("timm"):
        export_onnx(model, exports / "model.onnx", preprocess.img_size, labels=classes, preprocess=steps)
    export_own_formats(exports)
    write_labels(exports / "labels.txt", classes)
    write_preprocess(exports / "preprocess.json", steps)

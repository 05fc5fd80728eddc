"""Make a good export to break: a student with random weights whose outputs differ between classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tcs_edge.data import ImageSet, Preprocess, Split
from tcs_edge.data.digits import digits
from tcs_edge.export.onnx import export_onnx
from tcs_edge.export.own_formats import export_own_formats
from tcs_edge.export.preprocess import write_labels, write_preprocess
from tcs_edge.students.build import build_student, deployable, student_mean_std
from tcs_edge.students.embedding import StudentWithEmbedding
from tcs_edge.students.untrained import make_sensitive
from tcs_edge.utils.quiet import quiet

IMG_SIZE = 64  # the smallest size that every candidate takes
HEIGHT, WIDTH = 72, 90  # of the images; not square, so that the position of the crop matters
TRAIN_IMAGES, TEST_IMAGES = 256, 48
EMBEDDED_IMAGES = 32  # whose features give the axes of an embedding
RIDGE = 1e-2  # of the features' mean square, to keep the closed-form classifier well conditioned
LOGIT_SCALE = 10.0


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
    preprocess = preprocess_of(name)
    pixels = torch.from_numpy(np.stack([preprocess(images.train.image(row)) for row in range(len(images.train))]))
    model = _fitted(build_student(name, IMG_SIZE, "random", seed), pixels, images.train.labels)
    if embedding:
        model = StudentWithEmbedding(model, _coordinates(model, pixels[:EMBEDDED_IMAGES])).eval()
    exports = folder / "good"
    _export(model, exports, images.classes, preprocess)
    return Specimen(name, model, exports, images, preprocess)


def preprocess_of(name: str) -> Preprocess:
    """Return preprocessing with the mean and std of a student's weights, or ImageNet's if those change nothing.

    A second normalization, or a wrong mean, would be no fault for a student with mean 0 and std 1.
    """
    plain = Preprocess(IMG_SIZE, crop_pct=0.9)
    mean, std = student_mean_std(name)
    return plain if not any(mean) and set(std) == {1.0} else replace(plain, mean=mean, std=std)


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
    make_sensitive(backbone, pixels)
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

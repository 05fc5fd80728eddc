"""Train the built-in digits teacher without labels: SimCLR (arXiv 2002.05709) on the 1,197 training images.

    python tools/train_digits_teacher.py --out tcs_edge/teachers/digits.safetensors

Runs with one thread and a fixed seed, so the same machine and torch version write an identical file. Labels are used
only after training, to score the features. Random weights and plain pixels are scored for comparison.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from tcs_edge.data.digits import digits
from tcs_edge.data.images import ImageSet, Split
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.teachers.digits import DIM, IMG_SIZE, LICENSE, MEAN, STD, DigitsTeacher
from tcs_edge.utils.files import write_bytes

BATCHES_PER_EPOCH = 5
PEAK_LR, WEIGHT_DECAY = 2e-3, 1e-4
TEMPERATURE = 0.5

ROTATION_DEG, SHEAR_DEG, SHIFT = 15, 10, 0.12  # SHIFT: part of the side
SCALE_MIN, SCALE_MAX = 0.75, 1.15  # drawn separately for width and height
BEND = 0.05  # of elastic bending, in half sides
CONTRAST, BLUR_CHANCE, MAX_ERASED = 0.4, 0.5, 0.5  # MAX_ERASED: part of the side

NEIGHBORS = 5
PROBE_C = (0.001, 0.01, 0.1, 1.0)  # inverse L2 weights; the validation accuracy selects one

Accuracies = dict[str, float]
Table = dict[str, Accuracies]


def images_of(split: Split) -> Tensor:
    """Return all images of a split in 0..1: (N, 1, 32, 32)."""
    plain = Preprocess(IMG_SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return torch.stack([torch.from_numpy(plain(split.image(row))[:1]) for row in range(len(split))])


def normalized(images: Tensor) -> Tensor:
    """Normalize images (B, 1, 32, 32) in 0..1 to the teacher's input, (B, 3, 32, 32)."""
    return ((images - MEAN[0]) / STD[0]).expand(-1, 3, -1, -1)


def augmented(images: Tensor) -> Tensor:
    """Return a random view of each image, (B, 1, 32, 32), without flips, because a mirrored digit is another sign."""
    view = F.grid_sample(images, random_grid(len(images)), align_corners=False)
    view = torch.where(chance(BLUR_CHANCE, len(view)), blurred(view), view)
    brightness = uniform(1 - CONTRAST, 1 + CONTRAST, len(view))
    gamma = uniform(-CONTRAST, CONTRAST, len(view)).exp()
    view = (view * per_image(brightness)).clamp(0, 1) ** per_image(gamma)
    return view.masked_fill(random_boxes(len(view)), 0)


def random_grid(count: int) -> Tensor:
    """Return sampling grids (B, 32, 32, 2): rotate, shear, scale, shift, bend."""
    angle = torch.deg2rad(uniform(-ROTATION_DEG, ROTATION_DEG, count))
    shear = torch.deg2rad(uniform(-SHEAR_DEG, SHEAR_DEG, count)).tan()
    width, height = (1 / uniform(SCALE_MIN, SCALE_MAX, count) for _ in "xy")
    right, down = (2 * uniform(-SHIFT, SHIFT, count) for _ in "xy")
    cos, sin = angle.cos(), angle.sin()
    across = torch.stack([cos * width, (shear * cos - sin) * height, right], dim=1)
    along = torch.stack([sin * width, (shear * sin + cos) * height, down], dim=1)
    grid = F.affine_grid(torch.stack([across, along], dim=1), [count, 1, IMG_SIZE, IMG_SIZE], align_corners=False)
    bends = F.interpolate(BEND * torch.randn(count, 2, 4, 4), size=IMG_SIZE, mode="bicubic")
    return grid + bends.permute(0, 2, 3, 1)


def blurred(images: Tensor, times: int = 3) -> Tensor:
    """Apply a binomial blur with a sigma of about 1.2 pixels."""
    taps = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(taps, taps)[None, None]
    for _ in range(times):
        images = F.conv2d(F.pad(images, (1, 1, 1, 1)), kernel)
    return images


def random_boxes(count: int) -> Tensor:
    """Return one square per image to erase, bool (B, 1, 32, 32)."""
    pixel = torch.arange(IMG_SIZE)
    half_side = uniform(0, MAX_ERASED, count)[:, None] * IMG_SIZE / 2
    rows, columns = ((pixel - uniform(0, IMG_SIZE, count)[:, None]).abs() < half_side for _ in "yx")
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def uniform(low: float, high: float, count: int) -> Tensor:
    return torch.empty(count).uniform_(low, high)


def chance(probability: float, count: int) -> Tensor:
    return per_image(torch.rand(count) < probability)


def per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def simclr_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return the NT-Xent loss: find an image's other view among all 2B - 1; first and second are (B, p)."""
    count = len(first)
    points = F.normalize(torch.cat([first, second]), dim=1)
    itself = torch.eye(2 * count, dtype=torch.bool)
    similarity = (points @ points.T / TEMPERATURE).masked_fill(itself, -math.inf)
    return F.cross_entropy(similarity, torch.arange(2 * count).roll(count))


def train(teacher: DigitsTeacher, images: Tensor, epochs: int) -> None:
    """Train with SimCLR and a projector that is discarded."""
    projector = nn.Sequential(nn.Linear(DIM, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128))
    learner = nn.Sequential(teacher, projector).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    steps = epochs * BATCHES_PER_EPOCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, steps, pct_start=0.1)
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(len(images)).chunk(BATCHES_PER_EPOCH):
            views = augmented(images[torch.cat([rows, rows])])  # both through one batch norm
            loss = simclr_loss(*learner(normalized(views)).chunk(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 10 == 0 or epoch == epochs:
            print(f"epoch {epoch}/{epochs}: loss {loss.item():.3f}", flush=True)


@torch.inference_mode()
def features_of(teacher: DigitsTeacher, images: Tensor) -> np.ndarray:
    return teacher.eval()(normalized(images)).numpy()


def scores(features: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> Accuracies:
    """Return the accuracy in percent of a linear probe and of nearest neighbors, fitted on training features."""
    probes = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000)) for c in PROBE_C]
    knn = KNeighborsClassifier(NEIGHBORS, metric="cosine")
    for model in (*probes, knn):
        model.fit(features["train"], labels["train"])
    linear = max(probes, key=lambda model: model.score(features["val"], labels["val"]))
    return {
        f"{name}_{part}": round(100 * model.score(features[part], labels[part]), 2)
        for name, model in (("linear", linear), ("knn", knn))
        for part in ("val", "test")
    }


def measure(teacher: DigitsTeacher, control: DigitsTeacher, images: dict[str, Tensor], data: ImageSet) -> Table:
    labels = {part: getattr(data, part).labels for part in images}
    features = {
        "teacher": {part: features_of(teacher, images[part]) for part in images},
        "random_weights": {part: features_of(control, images[part]) for part in images},
        "pixels": {part: images[part].flatten(1).numpy() for part in images},
    }
    return {name: scores(features[name], labels) for name in features}


def pack(teacher: DigitsTeacher, facts: dict[str, object]) -> bytes:
    """Return fp16 safetensors; the metadata is one JSON entry, because several entries have no fixed order."""
    floats = {key: value for key, value in teacher.state_dict().items() if value.is_floating_point()}
    halves = {key: value.half().contiguous() for key, value in floats.items()}
    return save(halves, {"tcs_edge": json.dumps(facts)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int, default=120, help="at least 3")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(arguments.seed)

    data = digits()
    images = {part: images_of(getattr(data, part)) for part in ("train", "val", "test")}
    teacher = DigitsTeacher()
    control = copy.deepcopy(teacher)
    started = time.perf_counter()
    train(teacher, images["train"], arguments.epochs)
    print(f"trained in {time.perf_counter() - started:.0f} s")

    # Rounded to fp16 first, so that the scores apply to the file.
    accuracy = measure(teacher.half().float(), control, images, data)
    facts = {
        "method": f"SimCLR on the {len(data.train)} training digits, no labels",
        "epochs": arguments.epochs,
        "seed": arguments.seed,
        "torch": torch.__version__,
        "license": LICENSE,
        "data": "UCI Optical Recognition of Handwritten Digits, CC BY 4.0, as in scikit-learn",
        "data_fingerprint": data.fingerprint,
        "accuracy_percent": accuracy,
    }
    write_bytes(arguments.out, pack(teacher, facts))
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()

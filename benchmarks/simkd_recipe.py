"""Train one student by the recipe of SimKD's authors, with SimKD or with cross-entropy.

    python benchmarks/simkd_recipe.py --data photos/ --teacher timm/tf_efficientnet_lite0 --teacher-weights FILE \\
        --student mobilenetv3_small_100 --img-size 64 --method simkd --seed 0 --out simkd.json

The recipe (arXiv 2203.14001, section 4.1): 240 epochs of SGD with momentum 0.9, batches of 64, learning rate 0.05,
divided by 10 after epochs 150, 180 and 210, weight decay 5e-4, the teacher in memory on every view. Its teacher is
trained on the same images. Method, views and teacher are those of the package; only the optimizer is not.

`--epochs` shortens the recipe in proportion. Writes the accuracy on the test images, after the last epoch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn
from torch.nn.utils import clip_grad_norm_

from tcs_edge.data.loader import evaluation_loader
from tcs_edge.methods import MethodInputs, build_method
from tcs_edge.methods.base import Method
from tcs_edge.methods.batch import Batch
from tcs_edge.project.read import read_options
from tcs_edge.stages.prepare import Prepared, list_students
from tcs_edge.stages.train import build_backbone, teach
from tcs_edge.students.build import feature_dim
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.distill import training_batches
from tcs_edge.training.pace import Rows
from tcs_edge.training.trainer import accuracy_of, epoch_seed
from tcs_edge.utils.files import write_json
from tcs_edge.utils.threads import use_threads

BATCH_SIZE, LR, MOMENTUM, WEIGHT_DECAY = 64, 0.05, 0.9, 5e-4
DROPS = (150 / 240, 180 / 240, 210 / 240)
# Not in the recipe. It keeps a first step from diverging, and rarely acts afterwards.
GRAD_CLIP = 5.0


def main(
    data: Annotated[Path, typer.Option(help="Image folder.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    teacher_weights: Annotated[Path, typer.Option(help="Weights of the teacher, trained on the same images.")],
    teacher: Annotated[str, typer.Option(help="Teacher of timm.")] = "timm/tf_efficientnet_lite0",
    student: Annotated[str, typer.Option(help="Student, with random weights.")] = "mobilenetv3_small_100",
    method: Annotated[str, typer.Option(help="simkd or ce.")] = "simkd",
    img_size: Annotated[int, typer.Option(help="Input size of teacher and student, in pixels.")] = 64,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 240,
    seed: Annotated[int, typer.Option(help="Seed of weights and views.")] = 0,
) -> None:
    given = {
        "data": data, "student": student, "student_init": "random", "img_size": img_size, "target": "x86-avx2",
        "method": method, "teacher": teacher, "teacher_weights": teacher_weights, "teacher_img_size": img_size,
        "epochs": epochs, "batch_size": BATCH_SIZE, "seed": seed, "workers": 0, "threads": 1,
        "online_teacher": method == "simkd",
    }  # fmt: skip
    ready = list_students(read_options(given, None, None)).prepared()
    use_threads(1)
    started = time.monotonic()
    accuracy = train_and_test(ready)
    write_json(
        out,
        {"schema_version": 1, "method": method, "seed": seed, "epochs": epochs, "test_accuracy": accuracy,
         "seconds": round(time.monotonic() - started)},
    )  # fmt: skip
    typer.echo(f"{method}, seed {seed}: {100 * accuracy:.1f} % of {len(ready.images.test)} test images")


def train_and_test(ready: Prepared) -> float:
    """Train the student of `ready` and return its accuracy on the test images, in [0, 1]."""
    options, preprocess = ready.options, ready.preprocess
    torch.manual_seed(options.seed)
    backbone = build_backbone(ready)
    targets = teach(ready, backbone).targets
    width = feature_dim(backbone, preprocess.img_size)
    inputs = MethodInputs(backbone, width, preprocess.img_size, len(ready.images.classes), options, targets)
    method = build_method(inputs)
    accelerator = make_accelerator(options.device)
    batches = training_batches(ready.images, preprocess, options, accelerator.device)
    weights = [weight for part in (backbone, method) for weight in part.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    for epoch in range(options.epochs):
        torch.manual_seed(epoch_seed(options.seed, epoch))
        optimizer.param_groups[0]["lr"] = lr_of(epoch, options.epochs)
        loss = train_epoch(backbone, method, batches.of_epoch(epoch), optimizer)
        typer.echo(f"epoch {epoch + 1} of {options.epochs}: loss {loss:.4f}", err=True)
    batches.close()
    test = evaluation_loader(ready.images.test, preprocess, options.batch_size, 0)
    return accuracy_of(backbone, method, test, accelerator)


def train_epoch(backbone: nn.Module, method: Method, batches: Iterable[Rows], optimizer: torch.optim.SGD) -> float:
    """Train one epoch, and return the mean loss of its steps."""
    backbone.train()
    method.train()
    losses = []
    for images, labels, index in batches:
        optimizer.zero_grad()
        loss = method.losses(backbone, Batch(images, labels, index)).total
        loss.backward()
        clip_grad_norm_(optimizer.param_groups[0]["params"], GRAD_CLIP)
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def lr_of(epoch: int, epochs: int) -> float:
    """Return the learning rate of `epoch`, counted from 0: divided by 10 at each of `DROPS`."""
    return LR * 0.1 ** sum(epoch >= drop * epochs for drop in DROPS)


if __name__ == "__main__":
    typer.run(main)

"""Run by `test_processes`, once per process: prints what one process of a training saw, as JSON."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tcs_edge.data.augment import Augment
from tcs_edge.data.images import Split
from tcs_edge.data.loader import evaluation_loader, training_loader
from tcs_edge.data.pixel_store import PixelStore
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import MissingError, UsageError
from tcs_edge.methods import Tcs
from tcs_edge.stages.targets import shared_moments
from tcs_edge.tcs.coordinates import coordinates_of
from tcs_edge.tcs.selection import SelectionSchedule
from tcs_edge.teachers.features import Features
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.schedule import Schedule
from tcs_edge.training.trainer import Data, train
from tcs_edge.utils.ranks import current, gathered_texts, joined, require_same, shared_rows, wait

IMAGES, CLASSES, SIDE, DIMS = 41, 3, 16, 6
PREPROCESS = Preprocess(SIDE, mean=(0.5,) * 3, std=(0.5,) * 3)


def split() -> Split:
    rng = np.random.default_rng(0)
    labels = np.arange(IMAGES) % CLASSES
    pixels = rng.integers(0, 120, (IMAGES, SIDE, SIDE, 3))
    pixels[np.arange(IMAGES), :, :, labels] += 100
    return Split(pixels.astype(np.uint8), labels, [f"{index:03d}" for index in range(IMAGES)])


def features() -> Features:
    rows = np.random.default_rng(1).standard_normal((IMAGES, 12)) * np.linspace(1, 4, 12)
    return Features(rows.astype(np.float16), rows[:0], "", None, 0, 0.0)  # type: ignore[arg-type]


def axes() -> torch.Tensor:
    return coordinates_of(shared_moments(features()), DIMS).axes


def trained(
    checkpoint: Path | None, epochs: int, resume: bool = False
) -> tuple[nn.Module, list[dict], list[list[int]]]:
    """Train without batch norm, whose statistics depend on the number of processes."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    rows = torch.randn(IMAGES, DIMS, generator=torch.Generator().manual_seed(2))
    method = Tcs(8, CLASSES, rows, SelectionSchedule(rounds=3), mimic="mse")
    seen: list[list[int]] = []

    def batches(epoch):
        augment = Augment("crop-flip", PREPROCESS)
        for batch in training_loader(split(), augment, 16, seed=0, epoch=epoch, place=current()):
            seen.append(batch[2].tolist())
            yield batch

    data = Data(batches, 3, lambda: evaluation_loader(split(), PREPROCESS, 16, place=current()))
    log: list[dict] = []
    schedule = Schedule(epochs=epochs, batch_size=16, lr=0.05)
    train(backbone, method, data, schedule, 0, make_accelerator("cpu"), checkpoint, resume, log=log.append)
    return nn.Sequential(backbone, method), log, seen


def flat(model: nn.Module) -> list[float]:
    return torch.cat([value.detach().double().flatten() for value in model.parameters()]).tolist()


def say(found: object) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def main() -> None:
    checkpoint = Path(sys.argv[1]) if sys.argv[1:] else None
    torch.set_num_threads(1)
    found: dict[str, object] = {}
    with joined("cpu") as place:
        found["ranks"] = gathered_texts(f"rank {'é' * place.rank}{place.rank}")
        try:
            require_same({"images": "same", "option lr": str(place.rank)})
        except UsageError as error:
            found["differ"] = str(error)
        sent = np.arange(12, dtype=np.float16).reshape(4, 3)
        found["rows"] = shared_rows(None if place.rank else sent, None).tolist()
        found["axes"] = axes().tolist()
        store = PixelStore(np.full((4, 2), 2), 40, checkpoint and checkpoint.parent)  # three images have room
        store.allocate_together()
        for row in range(place.rank, 4, 2):
            store.put(row, np.full((2, 2, 3), row + 1, np.uint8))
        wait()
        kept = [store.get(row) for row in range(4)]
        found["kept"] = [None if pixels is None else pixels.tolist() for pixels in kept]
        model, log, seen = trained(checkpoint if place.rank == 0 else None, 4)
        found |= {"weights": flat(model), "log": log, "seen": seen}
        say(found)
        if place.rank:
            os._exit(9)  # as a process that the system kills
        gathered_texts("to a process that is gone")


if __name__ == "__main__":
    try:
        main()
    except MissingError as error:
        say(str(error))

"""Cost of bringing images to the training, before and after reduced decoding, working copies and uint8 batches.

    python benchmarks/throughput.py --photos 24

"Before" decodes every pixel of a photo in every pass, and normalizes each view to float32 in the worker. All rates are
per second of CPU time, so other work on the machine changes them little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from tcs_edge.data import Preprocess, Split
from tcs_edge.data.augment import Augment
from tcs_edge.data.batch_views import BatchViews
from tcs_edge.data.cache import Images, WorkingCopies, keep_decoded, with_crops
from tcs_edge.data.decode import inspect
from tcs_edge.data.images import content_hash
from tcs_edge.data.intake_photos import IntakePhotos
from tcs_edge.data.loader import TrainingBatches, evaluation_loader, training_loader
from tcs_edge.data.normalize import CPU, Normalizer
from tcs_edge.teachers.batches import batch_loader
from tcs_edge.utils.allocator import keeping_freed_memory

BATCH = 64
PHOTO, WEB = (4032, 3024), (500, 375)
PREPROCESS = Preprocess(224)
AUGMENT = Augment("crop-flip", PREPROCESS)


def photos(folder: Path, count: int, size: tuple[int, int]) -> Split:
    """Write JPEGs of `size` with smooth shapes and sensor noise, and return them."""
    rng = np.random.default_rng(0)
    paths = []
    for index in range(count):
        shapes = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        noise = rng.integers(-10, 11, (size[1], size[0], 1), dtype=np.int16)
        pixels = np.clip(np.asarray(shapes, np.int16) + noise, 0, 255).astype(np.uint8)
        paths.append(folder / f"{size[0]}-{index:04}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return Split(tuple(paths), np.zeros(count, np.int64), tuple(path.name for path in paths))


class Before(Dataset[tuple[torch.Tensor, int, int]]):
    """Views as float32 tensors."""

    def __init__(self, image: Callable[[int], Image.Image], count: int) -> None:
        self.image, self.count = image, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        return AUGMENT(self.image(index), np.random.default_rng([0, index])), 0, index


class Ready(Dataset[tuple[torch.Tensor, int, int]]):
    """One view that takes no time to make."""

    def __init__(self, view: torch.Tensor) -> None:
        self.view = view

    def __len__(self) -> int:
        return 40 * BATCH

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        return self.view, 0, index


def images_per_cpu_s(batches: Iterable[list[torch.Tensor]]) -> float:
    """Return images per second of this process's CPU time, from the second batch on if there are several."""
    count, started = 0, time.process_time()
    for batch in batches:
        count += len(batch[0])
    return count / (time.process_time() - started)


def show(name: str, before: float, after: float, unit: str) -> None:
    factor = after / before if unit.endswith("/s") else before / after
    print(f"{name:<58} {before:>9.1f} {after:>9.1f}  {unit:<12} {factor:.1f} times better", flush=True)


def epoch_of(images: Split, passes: int) -> None:
    """Compare one view of every image: of the files, and from the copies in later epochs."""
    name = f"{images.image(0).width} x {images.image(0).height}"
    before = DataLoader(Before(images.image, len(images)), BATCH)
    files = images_per_cpu_s(before)
    kept = keep_decoded(images, PREPROCESS)
    show(
        f"first epoch from files, {name}", files, images_per_cpu_s(training_loader(kept, AUGMENT, BATCH, 0, 0)), "img/s"
    )
    copies = DataLoader(Before(kept.image, len(images)), BATCH)
    old = np.median([images_per_cpu_s(copies) for _ in range(passes)])
    with keeping_freed_memory():  # as a training
        new = np.median([images_per_cpu_s(training_loader(kept, AUGMENT, BATCH, 0, epoch)) for epoch in range(passes)])
    show(f"later epochs, {name}: files before, copies after", files, float(new), "img/s")
    show(f"later epochs, {name}: copies before, copies after", float(old), float(new), "img/s")


def places(images: Split, passes: int) -> None:
    """Compare the worker's part of a view from the copies: all of the view, or its window for a device to go on with.

    The last figure is the device's part on a CPU, which is why a CPU does not take it.
    """
    kept = keep_decoded(images, PREPROCESS)
    rates = []
    for on_device in (False, True):
        loader = TrainingBatches(kept, AUGMENT, BATCH, 0, on_device=on_device).of_epoch(0)
        draws = list(loader.batch_sampler or ())
        spent = []
        for _ in range(1 + passes):
            started = time.process_time()
            made = [loader.collate_fn([loader.dataset[draw] for draw in batch]) for batch in draws]
            spent.append(time.process_time() - started)
        rates.append(len(images) / float(np.median(spent[1:])))
    show("worker: view before, window for a device after", rates[0], rates[1], "img/s")
    computed = BatchViews(AUGMENT, CPU)
    started = time.process_time()
    for (windows, numbers), *_ in made:
        computed(windows, numbers)
    print(f"the device's part, on a CPU: {len(images) / (time.process_time() - started):.0f} img/s")


def teacher(images: Split) -> None:
    """Compare the decoding of a teacher's pass."""
    started = time.process_time()
    for index in range(len(images)):
        PREPROCESS(images.image(index))
    before = 1e3 * (time.process_time() - started) / len(images)
    started = time.process_time()
    normalized = Normalizer(PREPROCESS)
    for views in batch_loader(images, PREPROCESS, [np.arange(len(images))], 0):
        normalized(torch.from_numpy(views))
    show("a photo of 12 MP for the teacher", before, 1e3 * (time.process_time() - started) / len(images), "ms")


def run(images: Split, epochs: int) -> None:
    """Compare what all stages of a run spend on images; a fifth of them is for validation, after every epoch."""
    first, photos = len(images) // 5, IntakePhotos(10**10, None)
    images = replace(images, contents=images.content_table(), photos=photos)
    val, train = images.subset(range(first)), images.subset(range(first, len(images)))
    copies = WorkingCopies(np.array([train.size(row) for row in range(len(train))]), PREPROCESS, 10**10, None)
    filled, kept_val = replace(train, working=copies), with_crops(val, PREPROCESS, 10**10, None)
    normalized = Normalizer(PREPROCESS)

    def check_before() -> None:
        for path in images.sources:
            content_hash(path)
            with Image.open(path) as image:
                image.draft(None, (32, 32))
                image.load()

    def check() -> None:
        for path in images.sources:
            content, found = content_hash(path), inspect(path)
            if found.photo:
                photos.put(content, found.photo)

    def passed(split: Split) -> None:
        for views in batch_loader(split, PREPROCESS, [np.arange(len(split))], 0):
            normalized(torch.from_numpy(views))

    def reduced_pass() -> None:
        passed(filled)
        passed(val)

    def views(source: Images) -> Callable[[], None]:
        return lambda: [images_per_cpu_s(training_loader(source, AUGMENT, BATCH, 0, epoch)) for epoch in range(epochs)]

    stages: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "check": (check_before, check),
        "teacher": (lambda: [PREPROCESS(images.image(row)) for row in range(len(images))], reduced_pass),
        "training": (lambda: views(_whole(train))(), lambda: views(keep_decoded(filled, PREPROCESS))()),
        "validation": (
            lambda: [list(evaluation_loader(val, PREPROCESS, BATCH)) for _ in range(epochs)],
            lambda: [list(evaluation_loader(kept_val, PREPROCESS, BATCH)) for _ in range(epochs)],
        ),
    }
    name = f"{len(images)} of {images.image(0).width} x {images.image(0).height}, {epochs} epochs"
    sums = [0.0, 0.0]
    for stage, both in stages.items():
        spent = []
        for place, work in enumerate(both):
            started = time.process_time()
            work()
            spent.append(time.process_time() - started)
            sums[place] += spent[-1]
        show(f"{name}: {stage}", *spent, "s")
    show(f"{name}: all stages", *sums, "s")


def _whole(split: Split) -> Split:
    """Return the split as its images in memory, decoded whole and shrunk like working copies; only of one size."""
    width, height = WorkingCopies(np.array([split.size(0)]), PREPROCESS, 0, None).store.sizes[0].tolist()
    pixels = [np.asarray(split.image(row).resize((width, height), PREPROCESS.resampling)) for row in range(len(split))]
    return replace(split, sources=np.stack(pixels))


def receiving() -> None:
    """Compare what the main process spends on batches that two workers hand over."""
    rates = []
    for view in (torch.zeros(3, 224, 224), torch.zeros(224, 224, 3, dtype=torch.uint8)):
        rates.append(images_per_cpu_s(DataLoader(Ready(view), BATCH, num_workers=2)))
    show("main process: receive batches, float32 before, uint8 after", rates[0], rates[1], "img/s")
    views, normalized = torch.zeros(BATCH, 224, 224, 3, dtype=torch.uint8), Normalizer(PREPROCESS, channels_last=True)
    started = time.process_time()
    for _ in range(20):
        normalized(views)
    print(f"main process: normalize on a CPU, {20 * BATCH / (time.process_time() - started):.0f} img/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=24, help="photos of 12 MP; ten times as many of 375 x 500")
    count = parser.parse_args().photos
    torch.set_num_threads(1)
    print(f"{'':<58} {'before':>9} {'after':>9}")
    with tempfile.TemporaryDirectory() as folder:
        large, small = photos(Path(folder), count, PHOTO), photos(Path(folder), 10 * count, WEB)
        teacher(large)
        run(large, 4)
        run(small, 4)
        epoch_of(large, 5)
        epoch_of(small, 3)
        places(small, 3)
        receiving()


if __name__ == "__main__":
    main()

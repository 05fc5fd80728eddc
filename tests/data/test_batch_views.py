"""Views that the device computes show what Pillow's show, from the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tcs_edge.data import Preprocess, Split
from tcs_edge.data.augment import Augment
from tcs_edge.data.batch_views import BatchViews, Window, collate_windows, longest_window, window_of
from tcs_edge.data.cache import keep_decoded
from tcs_edge.data.loader import TrainingBatches
from tcs_edge.data.normalize import CPU, Normalizer
from tcs_edge.data.rand_augment import RandAugment
from tcs_edge.training.modes import tensor_float_32

SIDE = 64
PREP = Preprocess(SIDE, interpolation="bilinear")


def image(width: int, height: int, seed: int) -> Image.Image:
    """Return noise, or smooth shapes that reach both ends of the range."""
    rng = np.random.default_rng([seed, 7])
    if seed % 2:
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    shapes = Image.fromarray(rng.integers(0, 2, (5, 7, 3), dtype=np.uint8) * np.uint8(255))
    return shapes.resize((width, height), Image.Resampling.BICUBIC)


def drawn_window(picture: Image.Image, augment: Augment, seed: int) -> Window:
    return window_of(np.asarray(picture), augment.draw(picture.size, np.random.default_rng(seed)), augment)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("kind", ["crop", "crop-flip"])
@pytest.mark.parametrize("size", [(80, 107), (64, 64), (31, 17), (300, 25), (24, 400)], ids=str)
def test_views_of_the_device_are_those_of_pillow(kind, interpolation, size):
    augment = Augment(kind, Preprocess(SIDE, interpolation=interpolation))
    pictures = [image(*size, seed) for seed in range(12)]
    wanted = np.stack([np.asarray(augment.view(one, np.random.default_rng(seed))) for seed, one in enumerate(pictures)])
    samples = [(drawn_window(one, augment, seed), 0, seed) for seed, one in enumerate(pictures)]
    (windows, numbers), _, positions = collate_windows(samples)
    assert positions.tolist() == list(range(12))
    assert max(windows.shape[1:3]) <= longest_window(min(size), augment)  # shared memory is planned by it
    found = BatchViews(augment, CPU)(windows, numbers)
    assert (found.dtype, found.shape) == (torch.uint8, (12, SIDE, SIDE, 3))
    difference = np.abs(found.numpy().astype(int) - wanted)
    tall = size[1] > size[0]  # Pillow resizes it in height first, and clips bicubic values in another order
    assert difference.max() <= (30 if tall and interpolation == "bicubic" else 2)
    assert (difference > 2).mean() <= 0.01
    assert (difference > 0).mean() <= (0.2 if tall else 0.02)


def test_what_surrounds_a_window_does_not_reach_its_view():
    augment = Augment("crop-flip", PREP)
    samples = [(drawn_window(image(60, 45, seed), augment, seed), 0, seed) for seed in range(4)]
    (windows, numbers), *_ = collate_windows(samples)
    views = BatchViews(augment, CPU)(windows, numbers)
    for place, (window, *_) in zip(windows, samples, strict=True):
        height, width = window.pixels.shape[:2]
        place[height:] = 255
        place[:, width:] = 255
    assert torch.equal(BatchViews(augment, CPU)(windows, numbers), views)


def test_a_large_batch_is_computed_in_parts(monkeypatch):
    augment = Augment("crop", PREP)
    (windows, numbers), *_ = collate_windows([(drawn_window(image(70, 50, s), augment, s), 0, s) for s in range(5)])
    whole = BatchViews(augment, CPU)(windows, numbers)
    monkeypatch.setattr("tcs_edge.data.batch_views.AT_ONCE", 2)
    assert torch.equal(BatchViews(augment, CPU)(windows, numbers), whole)


def test_a_training_in_tf32_computes_views_in_float32(monkeypatch):
    """With weights of 10 bits, one pixel in ten would be off by one."""
    augment, used, plain = Augment("crop", PREP), [], BatchViews._weights

    def noted(*arguments, **options):
        used.append(torch.get_float32_matmul_precision())
        return plain(*arguments, **options)

    monkeypatch.setattr(BatchViews, "_weights", noted)
    (windows, numbers), *_ = collate_windows([(drawn_window(image(70, 50, 1), augment, 1), 0, 0)])
    with tensor_float_32(torch.device("cuda")):
        BatchViews(augment, CPU)(windows, numbers)
        assert torch.get_float32_matmul_precision() == "high"
    assert set(used) == {"highest"}


@pytest.mark.parametrize("kind", ["crop", "crop-flip"])
def test_views_are_computed_on_the_device_alone(kind):
    """The meta device refuses tensors of another device, and gives no numbers back for the host to wait for."""
    meta, augment = torch.device("meta"), Augment(kind, PREP)
    (windows, numbers), *_ = collate_windows([(drawn_window(image(70, 50, 1), augment, 1), 0, 0)] * 3)
    views = Normalizer(PREP, meta, channels_last=True)(BatchViews(augment, meta)(windows, numbers))
    assert (views.device, views.shape, views.dtype) == (meta, (3, 3, SIDE, SIDE), torch.float32)


@pytest.fixture
def photos(tmp_path) -> Split:
    """Ten photos of several sizes."""
    paths = tuple(tmp_path / f"{number}.png" for number in range(10))
    for number, path in enumerate(paths):
        image(90 + 5 * number, 140 - 9 * number, number).save(path)
    return Split(paths, np.arange(10) % 3, tuple(path.name for path in paths))


def batches(images, augment: Augment, on_device: bool, workers: int = 0) -> list:
    made = TrainingBatches(images, augment, 4, seed=3, workers=workers, on_device=on_device)
    found = [batch for epoch in (0, 1) for batch in made.of_epoch(epoch)]
    made.close()
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_but_for_the_rounding_of_views(photos, workers):
    kept, augment = keep_decoded(photos, PREP), Augment("crop-flip", PREP)
    plain, computed = batches(kept, augment, False), batches(kept, augment, True, workers)
    assert len(plain) == len(computed) == 6
    for (views, labels, index), (others, same_labels, same_index) in zip(plain, computed, strict=True):
        assert torch.equal(labels, same_labels)
        assert torch.equal(index, same_index)
        assert others.stride() == views.stride()
        assert (views - others).abs().max() <= 2.01 / 255 / min(PREP.std)


def test_threads_make_the_windows_that_processes_make(photos, monkeypatch):
    kept, augment = keep_decoded(photos, PREP), Augment("crop", PREP)
    forked = batches(kept, augment, True, workers=2)
    monkeypatch.setattr("tcs_edge.data.workers.fork_context", lambda: None)
    for one, other in zip(forked, batches(kept, augment, True, workers=2), strict=True):
        assert torch.equal(one[0], other[0])


def test_copies_without_room_give_the_same_views(photos):
    augment = Augment("crop-flip", PREP)
    kept, not_kept = (keep_decoded(photos, PREP, cache_gb) for cache_gb in (1.0, 0.0))
    for one, other in zip(batches(kept, augment, True), batches(not_kept, augment, True), strict=True):
        assert torch.equal(one[0], other[0])


@pytest.mark.parametrize(
    "augment", [Augment("none", PREP), Augment("crop", PREP, distortion=RandAugment(5))], ids=["none", "rand-augment"]
)
def test_other_views_stay_with_the_workers(photos, augment):
    kept = keep_decoded(photos, PREP)
    for one, other in zip(batches(kept, augment, False), batches(kept, augment, True), strict=True):
        assert torch.equal(one[0], other[0])


def test_images_in_memory_stay_with_the_workers():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 90, 70, 3), dtype=np.uint8)
    split, augment = Split(pixels, np.zeros(8, np.int64), tuple("abcdefgh")), Augment("crop", PREP)
    for one, other in zip(batches(split, augment, False), batches(split, augment, True), strict=True):
        assert torch.equal(one[0], other[0])

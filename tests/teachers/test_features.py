from __future__ import annotations

import dataclasses
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from tcs_edge.data.images import ImageSet, Split
from tcs_edge.errors import DataError, MissingError, TcsEdgeError
from tcs_edge.teachers import features as module
from tcs_edge.teachers.cache import FeatureStore
from tcs_edge.teachers.features import Features, cached_images, features_cached, teacher_features
from tcs_edge.teachers.load import Teacher, TeacherInfo, build_teacher, describe_teacher
from tcs_edge.utils.launcher import Ranks

DINOV2 = "weights/vit_small_patch14_dinov2_saliency.fp16.safetensors"


class Watch:
    """Counts the images that the teacher processes, and keeps weak references to its modules."""

    def __init__(self) -> None:
        self.modules: list[weakref.ref[nn.Module]] = []
        self.images = 0
        self.fail_at: int | None = None
        self.before_image: Callable[[], object] = lambda: None

    def build(self, info: TeacherInfo, device: Any, real: Callable[..., Teacher]) -> Teacher:
        teacher = real(info, device)
        self.modules += [weakref.ref(part) for part in teacher.module.modules()]
        teacher.module.register_forward_pre_hook(self._see)
        return teacher

    def _see(self, _module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self.before_image()
        self.images += len(inputs[0])
        if self.fail_at is not None and self.images > self.fail_at:
            raise KeyboardInterrupt


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watcher = Watch()
    monkeypatch.setattr(module, "build_teacher", partial(watcher.build, real=module.build_teacher))
    return watcher


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FeatureStore", partial(FeatureStore, shard_images=6))


@pytest.fixture
def compute(image_set: ImageSet, vit_weights: Path, tmp_path: Path) -> Callable[..., Features]:
    settings = {"weights": vit_weights, "img_size": 32, "cache_dir": tmp_path, "batch_size": 4, "workers": 0}
    return lambda **changes: teacher_features(
        **({"images": image_set, "teacher_name": "timm/test_vit"} | settings | changes)
    )


def _direct(split: Split, weights: Path) -> np.ndarray:
    """Compute the features one image at a time, without `teacher_features`."""
    teacher = build_teacher(describe_teacher("timm/test_vit", weights, 32))
    with torch.inference_mode():
        rows = [
            teacher.module(torch.from_numpy(teacher.preprocess(split.image(i))[None]))[0].numpy()
            for i in range(len(split))
        ]
    return np.stack(rows)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.usefixtures("small_shards")
def test_rows_are_the_teachers_features_in_order(
    compute: Callable[..., Features], image_set: ImageSet, vit_weights: Path, workers: int
) -> None:
    features = compute(workers=workers)
    assert features.train.dtype == features.val.dtype == np.float16
    assert np.allclose(features.train, _direct(image_set.train, vit_weights), atol=2e-3)
    assert np.allclose(features.val, _direct(image_set.val, vit_weights), atol=2e-3)


def test_teacher_processes_train_and_val_once_and_is_unloaded(
    compute: Callable[..., Features], image_set: ImageSet, watch: Watch
) -> None:
    features = compute()
    assert watch.images == len(image_set.train) + len(image_set.val) == features.images_computed
    assert watch.modules
    assert all(reference() is None for reference in watch.modules)


def test_test_images_are_never_opened(compute: Callable[..., Features], image_set: ImageSet) -> None:
    class Forbidden(Split):
        def image(self, index: int) -> Image.Image:
            raise AssertionError("a test image was opened")

    test = Forbidden(image_set.test.sources, image_set.test.labels, image_set.test.names)
    compute(images=dataclasses.replace(image_set, test=test))


def test_second_call_does_not_load_the_teacher(
    compute: Callable[..., Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compute()

    def refuse(*args: object) -> None:
        raise AssertionError("the teacher was loaded")

    monkeypatch.setattr(module, "build_teacher", refuse)
    second = compute()
    assert np.array_equal(first.train, second.train)
    assert np.array_equal(first.val, second.val)
    assert (second.key, second.images_computed, second.pass_seconds) == (first.key, 0, 0.0)


@pytest.mark.usefixtures("small_shards")
def test_cached_images_are_counted_by_finished_shards(
    compute: Callable[..., Features], image_set: ImageSet, vit_weights: Path, watch: Watch, tmp_path: Path
) -> None:
    def count() -> int:
        return cached_images(image_set, "timm/test_vit", vit_weights, 32, tmp_path)

    everything = len(image_set.train) + len(image_set.val)
    assert count() == 0
    watch.fail_at = 14
    with pytest.raises(KeyboardInterrupt):
        compute()
    assert count() == 12
    watch.fail_at = None
    compute()
    assert count() == everything
    assert features_cached(image_set, "timm/test_vit", vit_weights, 32, tmp_path)
    assert not features_cached(image_set, "timm/test_vit", vit_weights, 48, tmp_path)


@pytest.mark.usefixtures("small_shards")
def test_interrupted_pass_resumes_at_the_first_missing_shard(
    compute: Callable[..., Features], watch: Watch, tmp_path: Path
) -> None:
    watch.fail_at = 14
    with pytest.raises(KeyboardInterrupt):
        compute()
    watch.fail_at, watch.images = None, 0
    resumed = compute()
    assert watch.images == 27 - 12 == resumed.images_computed
    assert np.array_equal(resumed.train, compute(cache_dir=tmp_path / "fresh").train)


@pytest.mark.usefixtures("small_shards")
def test_one_of_two_passes_at_once_waits_for_the_other(
    compute: Callable[..., Features], watch: Watch, tmp_path: Path, recorder: Any
) -> None:
    """And a killed pass's drafts are removed."""
    compute()
    for shard in tmp_path.glob("features/*/*/*.safetensors"):
        shard.rename(shard.with_name(".0.draft-4000000.safetensors"))
    watch.images = 0

    def waiting() -> list[str]:
        return [line for line in recorder.said if line.startswith("waiting for process ")]

    def until_the_other_waits() -> None:
        deadline = time.monotonic() + 60
        while not waiting() and time.monotonic() < deadline:
            time.sleep(0.01)

    watch.before_image = until_the_other_waits
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: compute(), range(2))
    assert sorted((one.images_computed, two.images_computed)) == [0, 27]
    assert watch.images == 27
    assert np.array_equal(one.train, two.train)
    assert np.array_equal(one.val, two.val)
    assert waiting()
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.usefixtures("small_shards")
def test_only_the_damaged_shard_is_recomputed(
    compute: Callable[..., Features], watch: Watch, tmp_path: Path, recorder: Any
) -> None:
    first = compute()
    shard = max(tmp_path.glob("features/*/*/*.safetensors"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-2] + b"xx")
    watch.images = 0
    second = compute()
    assert watch.images == 6
    assert len(recorder.warned) == 1
    assert np.array_equal(first.train, second.train)
    assert np.array_equal(first.val, second.val)


def test_size_and_weights_have_separate_caches(
    compute: Callable[..., Features], vit_weights: Path, tmp_path: Path
) -> None:
    state = load_file(vit_weights)
    state["norm.bias"] += 1
    save_file(state, tmp_path / "other.safetensors")
    first = compute()
    others = [compute(img_size=48), compute(weights=tmp_path / "other.safetensors")]
    assert len({first.key, *(other.key for other in others)}) == 3
    assert all(other.images_computed == 27 for other in others)
    assert compute().images_computed == 0


def _shuffled(images: ImageSet, seed: int) -> ImageSet:
    """Draw train and val of `images` anew."""
    both = [
        np.concatenate([getattr(split, name) for split in (images.train, images.val)]) for name in ("sources", "labels")
    ]
    names = (*images.train.names, *images.val.names)
    rows = np.random.default_rng(seed).permutation(len(names))
    whole = Split(both[0], both[1], names)
    return dataclasses.replace(images, train=whole.subset(rows[:20]), val=whole.subset(rows[20:]))


def test_images_seen_before_are_not_computed_again(
    compute: Callable[..., Features], image_set: ImageSet, watch: Watch
) -> None:
    """Another seed, a few shots, another name or label, one more image."""
    rows = dict(zip(image_set.train.names, compute().train, strict=True))
    other = _shuffled(image_set, 1)
    few = dataclasses.replace(image_set, train=image_set.train.subset([3, 1, 8]))
    renamed = dataclasses.replace(
        image_set, train=dataclasses.replace(image_set.train, names=tuple("abcdefghijklmnopqrst")), fingerprint="e" * 64
    )
    pixels = np.concatenate([image_set.train.sources, np.full((1, 40, 40, 3), 9, np.uint8)])
    more = Split(pixels, np.append(image_set.train.labels, 0), (*image_set.train.names, "new"))
    watch.images = 0
    for images, computed in ((other, 0), (few, 0), (renamed, 0), (dataclasses.replace(image_set, train=more), 1)):
        features = compute(images=images)
        assert features.images_computed == watch.images == computed
        for name, row in zip(images.train.names, features.train, strict=True):
            assert name not in rows or np.array_equal(row, rows[name])
        watch.images = 0


def test_pixels_in_memory_of_another_shape_are_other_images(
    compute: Callable[..., Features], image_set: ImageSet
) -> None:
    compute()
    turned = image_set.train.sources.reshape(20, 20, 80, 3)
    train = Split(turned, image_set.train.labels, image_set.train.names)
    assert compute(images=dataclasses.replace(image_set, train=train)).images_computed == 20


def test_pass_logs_the_name_of_the_teacher(compute: Callable[..., Features], recorder: Any) -> None:
    compute()
    assert len(recorder.said) == 1
    assert "timm/test_vit" in recorder.said[0]


def test_empty_validation_split_gives_no_rows(compute: Callable[..., Features], image_set: ImageSet) -> None:
    features = compute(images=dataclasses.replace(image_set, val=image_set.val.subset([])))
    assert features.val.shape == (0, 64)


@pytest.mark.parametrize("workers", [0, 1])
def test_error_for_an_unreadable_image_is_one_line(
    compute: Callable[..., Features], image_set: ImageSet, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "a.png").write_bytes(b"not an image")
    broken = Split((tmp_path / "a.png",), np.zeros(1, np.int64), ("a.png",))
    with pytest.raises(TcsEdgeError, match=r"a\.png") as caught:
        compute(images=dataclasses.replace(image_set, train=broken), workers=workers)
    assert "\n" not in str(caught.value)


def _spoiled(weights: Path, target: Path, **values: float) -> Path:
    state = load_file(weights)
    for key, value in values.items():
        state[key.replace("__", ".")].fill_(value)
    save_file(state, target)
    return target


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"norm__weight": 3e38}, "NaN or Inf"),  # finite weights whose features overflow float32
        ({"norm__bias": 70000.0}, "above the fp16 limit"),
        ({"norm__weight": 0.0}, "same for different images"),
    ],
)
def test_unusable_features_are_refused(
    compute: Callable[..., Features],
    vit_weights: Path,
    tmp_path: Path,
    spoil: dict[str, float],
    message: str,
) -> None:
    path = _spoiled(vit_weights, tmp_path / "w.safetensors", **spoil)
    with pytest.raises(DataError, match=message) as caught:
        compute(weights=path)
    assert "timm/test_vit" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "features").rglob("*.safetensors"))


def test_equal_images_may_have_equal_features(compute: Callable[..., Features], image_set: ImageSet) -> None:
    pixels = np.repeat(image_set.train.sources[:1], 20, axis=0)
    twins = Split(pixels, image_set.train.labels, image_set.train.names)
    features = compute(images=dataclasses.replace(image_set, train=twins))
    assert np.ptp(features.train.astype(np.float32), axis=0).max() == 0


def _clothing(folder: Path, part: str, classes: list[str], per_class: int) -> Split:
    files = [sorted((folder / part / name).glob("*.jpg"))[:per_class] for name in classes]
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in files])
    paths = tuple(path for group in files for path in group)
    return Split(paths, labels, tuple(path.name for path in paths))


@pytest.mark.slow
def test_real_dinov2_features_classify_clothes_above_chance(
    shared: Callable[[str], Path], image_set: ImageSet, tmp_path: Path
) -> None:
    classes = ["dress", "pants", "shoes"]
    folder = shared("data/clothing")
    train, val = (_clothing(folder, part, classes, 4) for part in ("train", "val"))
    images = dataclasses.replace(image_set, train=train, val=val, fingerprint="clothes")
    features = teacher_features(images, "dinov2", shared(DINOV2), cache_dir=tmp_path, workers=0)
    assert np.isfinite(features.train).all()
    assert features.train.astype(np.float32).std(axis=0).min() > 0
    nearest = KNeighborsClassifier(1, metric="cosine").fit(features.train.astype(np.float32), train.labels)
    assert nearest.score(features.val.astype(np.float32), val.labels) > 0.5


def test_each_process_computes_its_shards_and_finds_those_of_the_others(
    compute: Callable[..., Features],
    image_set: ImageSet,
    watch: Watch,
    small_shards: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Both processes run here, one after the other; so the first one does not find the second one's shards."""
    alone = compute(cache_dir=tmp_path / "alone")
    images, watch.images = watch.images, 0
    decided: list[bytes] = []
    monkeypatch.setattr(module, "wait", lambda: None)
    monkeypatch.setattr(module, "gathered_texts", lambda text: ["1", text])
    monkeypatch.setattr(module, "shared_bytes", lambda own: decided.append(own) or own)
    monkeypatch.setattr(module, "current", lambda: Ranks(0, 2, 2))
    with pytest.raises(MissingError, match=r"process 1 does not find the features of the others in .*--cache-dir"):
        compute()
    assert 0 < watch.images < images
    rank_0 = list(decided)
    monkeypatch.setattr(module, "shared_bytes", lambda own: rank_0.pop(0))
    monkeypatch.setattr(module, "current", lambda: Ranks(1, 2, 2))
    found = compute()
    assert (watch.images, found.images_computed) == (images, images)
    np.testing.assert_array_equal(found.train, alone.train)
    np.testing.assert_array_equal(found.val, alone.val)

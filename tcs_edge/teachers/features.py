"""The teacher's single pass: it sees every training and validation image once and is then unloaded."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tcs_edge.data.images import ImageSet, Split
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.data.workers import worker_settings
from tcs_edge.errors import DataError, TcsEdgeError
from tcs_edge.teachers.cache import FeatureStore, cache_key, default_cache_dir, feature_ingredients
from tcs_edge.teachers.load import TeacherInfo, build_teacher, describe_teacher, is_cached
from tcs_edge.teachers.readout import POOLED, Readout
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

BATCH_SIZE = 32
_FP16_MAX = float(np.finfo(np.float16).max)
_FEW_IMAGES = 512  # below it, starting processes takes longer than decoding
_MAX_AUTO_WORKERS = 8


@dataclass(frozen=True)
class Features:
    """A teacher's features of one image set.

    Attributes:
        train: float16 (N_train, n), row i belongs to image i of `images.train`; n = d, the width of the
            pooled features, unless `readout` says otherwise.
        val: float16 (N_val, n).
        key: sha256 (hex) of everything the numbers depend on.
        meta: the teacher they come from.
        images_computed: how many images the teacher saw in this call; 0 when the cache had all.
        pass_seconds: wall time of loading the teacher and of its pass, in this call.
        readout: which of the teacher's numbers these are.
    """

    train: np.ndarray
    val: np.ndarray
    key: str
    meta: TeacherInfo
    images_computed: int
    pass_seconds: float
    readout: Readout = POOLED


def teacher_features(
    images: ImageSet,
    teacher_name: str,
    weights: Path | None = None,
    img_size: int | None = None,
    cache_dir: Path | None = None,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    device: str | torch.device = "cpu",
    readout: Readout = POOLED,
) -> Features:
    """The features of the training and the validation images; the test images are never shown.

    What the cache holds is not computed again; if it holds everything the teacher is not even loaded.
    A pass that is interrupted goes on at the first missing shard. When the function returns, no teacher
    is in memory.

    Args:
        teacher_name, weights, img_size: as `load.describe_teacher`.
        cache_dir: default `cache.default_cache_dir()`.
        workers: processes that decode images; 0 decodes in this one, None decides by itself.
        readout: which of the teacher's numbers; the pooled features unless told otherwise.

    Raises:
        DataError: the weights do not fit, or the features hold NaN or Inf, overflow fp16 or are constant.
        UnknownName, UsageError, MissingError: as `describe_teacher`; MissingError also when the disk is full.
    """
    info = describe_teacher(teacher_name, weights, img_size)
    splits = {"train": images.train, "val": images.val}
    root = default_cache_dir() if cache_dir is None else Path(cache_dir)
    stores = {part: _store(root, info, images, part, splits[part], readout) for part in splits}
    found = {part: stores[part].read_intact() for part in stores}
    todo = {part: [s for s in range(stores[part].shards) if s not in found[part]] for part in stores}
    started = time.perf_counter()
    if any(todo.values()):
        logger.info(f"teacher {info.name} sees every image once ({info.preprocess.img_size} px, {device})")
        _run_pass(info, readout, splits, stores, todo, found, batch_size, workers, device)
        _free_memory(device)
    computed = sum(len(stores[part].rows_of(shard)) for part in todo for shard in todo[part])
    train, val = (_join(stores[part], found[part]) for part in ("train", "val"))
    key = cache_key({part: stores[part].key for part in stores})
    seconds = time.perf_counter() - started if computed else 0.0
    return Features(train, val, key, info, computed, seconds, readout)


def features_cached(
    images: ImageSet,
    teacher_name: str,
    weights: Path | None = None,
    img_size: int | None = None,
    cache_dir: Path | None = None,
) -> bool:
    """Whether `teacher_features` would find all pooled features in the cache; nothing is downloaded to know it.

    Raises:
        UnknownName, UsageError, DataError, MissingError: as `describe_teacher`, for a teacher that is here.
    """
    if weights is None and not is_cached(teacher_name):
        return False
    info = describe_teacher(teacher_name, weights, img_size)
    root = default_cache_dir() if cache_dir is None else Path(cache_dir)
    parts = (("train", images.train), ("val", images.val))
    stores = [_store(root, info, images, part, split, POOLED) for part, split in parts]
    return all(len(store.read_intact()) == store.shards for store in stores)


def _store(root: Path, info: TeacherInfo, images: ImageSet, part: str, split: Split, readout: Readout) -> FeatureStore:
    ingredients = feature_ingredients(
        info.timm_name or info.name,
        info.weights_sha256,
        info.preprocess,
        images.fingerprint + (images.unlabeled_fingerprint if part == "train" else ""),
        part,
        split.names,
    )
    ingredients |= readout.ingredients()
    return FeatureStore(root, ingredients, len(split), readout.width or info.dim)


def _run_pass(
    info: TeacherInfo,
    readout: Readout,
    splits: Mapping[str, Split],
    stores: Mapping[str, FeatureStore],
    todo: Mapping[str, list[int]],
    found: Mapping[str, dict[int, np.ndarray]],
    batch_size: int,
    workers: int | None,
    device: str | torch.device,
) -> None:
    """Fill `found` and the stores with the shards of `todo`. The teacher lives in this frame alone."""
    module = readout.of(build_teacher(info, device).module)
    for part in (part for part in todo if todo[part]):
        plan = [rows for shard in todo[part] for rows in _batches(stores[part].rows_of(shard), batch_size)]
        loader = _loader(splits[part], info.preprocess, plan, workers)
        batches = track(loader, f"teacher features ({part})", total=len(plan))
        rows = _forward(info, module, batches, device)
        for shard in todo[part]:
            features = _take(rows, len(stores[part].rows_of(shard)), stores[part].dim)
            stores[part].write(shard, features)
            found[part][shard] = features


def _batches(rows: range, batch_size: int) -> list[range]:
    """Cut a shard's rows into batches, so that no batch crosses into the next shard."""
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def _forward(
    info: TeacherInfo,
    module: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[np.ndarray | TcsEdgeError],
    device: str | torch.device,
) -> Iterator[np.ndarray]:
    """Batches of images (B, 3, S, S) -> float16 features (B, d), checked."""
    for batch in batches:
        if isinstance(batch, TcsEdgeError):
            raise batch
        with torch.inference_mode():
            features = module(torch.from_numpy(batch).to(device)).cpu().numpy()
        _check(info, features, batch)
        yield features.astype(np.float16)


def _take(batches: Iterator[np.ndarray], rows: int, dim: int) -> np.ndarray:
    """The next `rows` rows of a stream of batches that do not cross that border."""
    features = np.empty((rows, dim), np.float16)
    filled = 0
    while filled < rows:
        batch = next(batches)
        features[filled : filled + len(batch)] = batch
        filled += len(batch)
    return features


def _check(info: TeacherInfo, features: np.ndarray, images: np.ndarray) -> None:
    """Refuse features that carry no knowledge. float32 (B, d), of images (B, 3, S, S)."""
    if not np.isfinite(features).all():
        raise DataError(_broken(info, "give NaN or Inf"))
    if np.abs(features).max() > _FP16_MAX:
        raise DataError(_broken(info, f"reach {np.abs(features).max():.3g}, beyond fp16's {_FP16_MAX:g}"))
    same_rows = len(features) > 1 and np.ptp(features, axis=0).max() == 0
    if same_rows and np.ptp(images, axis=0).max() > 0:
        raise DataError(_broken(info, "are the same for different images"))
    if features.shape[1] > 1 and np.ptp(features, axis=1).max() == 0:
        raise DataError(_broken(info, "are constant"))


def _broken(info: TeacherInfo, what: str) -> str:
    return (
        f"the features of teacher {info.name!r} ({info.weights_source}) {what}. "
        "The weights are damaged or of another model: bring them again or choose another --teacher."
    )


def _join(store: FeatureStore, found: Mapping[int, np.ndarray]) -> np.ndarray:
    shards = [found[shard] for shard in range(store.shards)]
    return np.concatenate(shards) if shards else np.empty((0, store.dim), np.float16)


def _free_memory(device: str | torch.device) -> None:
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


class _Decoded(Dataset[Any]):
    """Batch number -> float32 (B, 3, S, S); an error is handed over as a value, so that it stays one line."""

    def __init__(self, split: Split, preprocess: Preprocess, plan: list[range]) -> None:
        self.split, self.preprocess, self.plan = split, preprocess, plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> np.ndarray | TcsEdgeError:
        try:
            return np.stack([self.preprocess(self.split.image(row)) for row in self.plan[index]])
        except TcsEdgeError as error:
            return error


def _loader(
    split: Split, preprocess: Preprocess, plan: list[range], workers: int | None
) -> DataLoader[np.ndarray | TcsEdgeError]:
    # Arrays travel through a pipe: a container's 64 MB of /dev/shm cannot hold two batches of tensors.
    count = _auto_workers(split) if workers is None else workers
    data = _Decoded(split, preprocess, plan)
    generator = torch.Generator()  # its own, so that iterating leaves torch's global stream alone
    return DataLoader(data, batch_size=None, collate_fn=_as_it_is, generator=generator, **worker_settings(count))


def _as_it_is(batch: np.ndarray | TcsEdgeError) -> np.ndarray | TcsEdgeError:
    return batch


def _auto_workers(split: Split) -> int:
    if isinstance(split.sources, np.ndarray) or len(split) < _FEW_IMAGES:
        return 0
    return min(_MAX_AUTO_WORKERS, max(1, (os.cpu_count() or 2) - 1))

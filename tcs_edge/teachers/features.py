"""Single pass of the teacher over the training and validation images, after which it is unloaded."""

from __future__ import annotations

import gc
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tcs_edge.data.decode import SPARE_PIXELS
from tcs_edge.data.images import ImageSet, Split
from tcs_edge.data.normalize import Normalizer
from tcs_edge.errors import DataError, MissingError, TcsEdgeError
from tcs_edge.teachers.batch_size import pass_batch_size
from tcs_edge.teachers.batches import batch_loader
from tcs_edge.teachers.cache import FeatureStore, cache_key, feature_ingredients
from tcs_edge.teachers.info import TeacherFacts, TeacherInfo
from tcs_edge.teachers.load import build_teacher, describe_teacher, is_cached
from tcs_edge.teachers.readout import POOLED, Readout
from tcs_edge.utils.allocator import keeping_freed_memory
from tcs_edge.utils.cache_folder import default_cache_dir
from tcs_edge.utils.progress import track
from tcs_edge.utils.ranks import current, gathered_texts, shared_bytes, wait

logger = logging.getLogger(__name__)

_FP16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Features:
    """Features of one image set from one teacher.

    Attributes:
        train: float16 (N_train, n); row i belongs to image i of `images.train`. For the pooled readout
            n = d, the width of the pooled features; see `readout` for the others.
        val: float16 (N_val, n).
        key: sha256 (hex) of all inputs of the features.
        meta: description of the teacher.
        images_computed: number of images that the teacher processed in this call; 0 if all were cached.
        pass_seconds: wall time of loading the teacher and of its pass, in this call.
        readout: output of the teacher that was stored.
    """

    train: np.ndarray
    val: np.ndarray
    key: str
    meta: TeacherFacts
    images_computed: int
    pass_seconds: float
    readout: Readout = POOLED


def teacher_features(
    images: ImageSet,
    teacher_name: str,
    weights: Path | None = None,
    img_size: int | None = None,
    cache_dir: Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | torch.device = "cpu",
    readout: Readout = POOLED,
) -> Features:
    """Compute the teacher's features of the training and validation images; test images are never read.

    Cached features are not computed again, in whatever split or image set they were computed first. If all are
    cached, the teacher is not loaded. An interrupted pass resumes at the first missing shard. No teacher is in
    memory when the function returns.

    Args:
        teacher_name, weights, img_size: as `load.describe_teacher`.
        cache_dir: default `default_cache_dir()`.
        batch_size: images at a time; None takes 32 on a CPU, and on a GPU what its memory allows.
        workers: processes or threads that decode images; 0 decodes in this thread, None chooses a number.
        readout: output of the teacher to store; default its pooled features.

    Raises:
        DataError: the weights do not fit, or the features contain NaN or Inf, overflow fp16 or are constant.
        UnknownName, UsageError, MissingError: as `describe_teacher`; MissingError also when the disk is full.
    """
    info = describe_teacher(teacher_name, weights, img_size)
    return features_of(images, info, cache_dir, batch_size, workers, device, readout)


def features_of(
    images: ImageSet,
    info: TeacherInfo,
    cache_dir: Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | torch.device = "cpu",
    readout: Readout = POOLED,
) -> Features:
    """Compute the features of a described teacher, as `teacher_features` does.

    Raises:
        DataError, MissingError: as `teacher_features`.
    """
    splits = {"train": images.train, "val": images.val}
    store = _store(cache_dir, info, readout)
    keys = {part: feature_keys(split) for part, split in splits.items()}
    found = {part: store.read(keys[part]) for part in splits}
    computed, started = 0, time.perf_counter()
    if not current().alone:
        found, computed = _shared_pass(images, info, readout, keys, found, store, batch_size, workers, device)
    elif not _complete(found):
        with store.owned(np.concatenate([*keys.values()])) as folder:
            # Another process may have computed them in the meantime.
            found = {part: store.read(keys[part], logging.DEBUG) for part in splits}
            started = time.perf_counter()
            if not _complete(found):
                logger.info(f"teacher pass: {info.name}, {info.preprocess.img_size} px, {device}")
                rows = {part: np.flatnonzero(~known) for part, (_, known) in found.items()}
                computed = sum(map(len, rows.values()))
                arrays = {part: features for part, (features, _) in found.items()}
                _run_pass(info, readout, splits, rows, arrays, keys, store, folder, batch_size, workers, device)
                _free_memory(device)
    key = cache_key({"store": store.key, **{part: _digest(keys[part]) for part in splits}})
    seconds = time.perf_counter() - started if computed else 0.0
    return Features(found["train"][0], found["val"][0], key, info, computed, seconds, readout)


def _shared_pass(
    images: ImageSet,
    info: TeacherInfo,
    readout: Readout,
    keys: Mapping[str, np.ndarray],
    found: Mapping[str, tuple[np.ndarray, np.ndarray]],
    store: FeatureStore,
    batch_size: int | None,
    workers: int | None,
    device: str | torch.device,
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    """Divide the missing shards among the processes; return what `store.read` finds, and the images computed by all.

    The batches equal those of one process, so the features do too.

    Raises:
        MissingError: a process does not see the shards of another one.
    """
    splits = {"train": images.train, "val": images.val}
    # Rank 0 decides, since another one may look a moment later and see more.
    todo = {
        part: np.frombuffer(shared_bytes(np.flatnonzero(~known).tobytes()), np.int64)
        for part, (_, known) in found.items()
    }
    computed = sum(map(len, todo.values()))
    if not computed:
        return dict(found), 0
    place = current()
    logger.info(f"teacher pass: {info.name}, {info.preprocess.img_size} px, {device}, {place.size} processes")
    own = {part: _own_shards(rows, store.shard_images, place.rank, place.size) for part, rows in todo.items()}
    if any(map(len, own.values())):
        with store.owned(np.concatenate([keys[part][own[part]] for part in splits])) as folder:
            arrays = {part: features for part, (features, _) in found.items()}
            _run_pass(info, readout, splits, own, arrays, keys, store, folder, batch_size, workers, device)
    _free_memory(device)
    wait()
    read = {part: store.read(keys[part]) for part in splits}
    seen = gathered_texts(str(int(_complete(read))))
    if "0" in seen:
        raise MissingError(
            f"process {seen.index('0')} does not find the features of the others in {store.root}. "
            "Pass --cache-dir with a folder that all machines share."
        )
    return read, computed


def _own_shards(rows: np.ndarray, size: int, rank: int, processes: int) -> np.ndarray:
    """Return the rows of every `processes`-th shard, from shard `rank` on."""
    own: np.ndarray = rows[np.arange(len(rows)) // size % processes == rank]
    return own


def feature_keys(split: Split) -> np.ndarray:
    """Return the key of each image in a `FeatureStore`, uint8 (N, 32): the sha256 of the file.

    For pixels in memory, it is the sha256 of their shape and the sha256 of their bytes.
    """
    contents = split.content_table()
    if not isinstance(split.sources, np.ndarray):
        return contents
    shape = repr(split.sources.shape[1:]).encode()
    keys = [hashlib.sha256(shape + row.tobytes()).digest() for row in contents]
    return np.frombuffer(b"".join(keys), np.uint8).reshape(contents.shape)


def _complete(found: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bool:
    return all(known.all() for _, known in found.values())


def _digest(keys: np.ndarray) -> str:
    return hashlib.sha256(keys.tobytes()).hexdigest()


def features_cached(
    images: ImageSet,
    teacher_name: str,
    weights: Path | None = None,
    img_size: int | None = None,
    cache_dir: Path | None = None,
) -> bool:
    """Return True if all pooled features for `teacher_features` are cached, without downloading anything.

    Raises:
        UnknownName, UsageError, DataError, MissingError: as `describe_teacher`, if the weights are local.
    """
    cached = cached_images(images, teacher_name, weights, img_size, cache_dir)
    return cached == len(images.train) + len(images.val)


def cached_images(
    images: ImageSet,
    teacher_name: str,
    weights: Path | None = None,
    img_size: int | None = None,
    cache_dir: Path | None = None,
) -> int:
    """Count the training and validation images whose pooled features are cached, without downloading anything.

    Raises:
        UnknownName, UsageError, DataError, MissingError: as `describe_teacher`, if the weights are local.
    """
    if weights is None and not is_cached(teacher_name):
        return 0
    return cached_images_of(images, describe_teacher(teacher_name, weights, img_size), cache_dir)


def cached_images_of(images: ImageSet, info: TeacherInfo, cache_dir: Path | None = None) -> int:
    """Count the training and validation images whose pooled features from a described teacher are cached."""
    store = _store(cache_dir, info, POOLED)
    return sum(int(store.has(feature_keys(split)).sum()) for split in (images.train, images.val))


def _store(cache_dir: Path | None, info: TeacherInfo, readout: Readout) -> FeatureStore:
    root = default_cache_dir() if cache_dir is None else Path(cache_dir)
    ingredients = feature_ingredients(info.timm_name or info.name, info.weights_sha256, info.preprocess)
    decoding = {"decoding": f"JPEG reduced to {SPARE_PIXELS} times the view"}
    return FeatureStore(
        root, ingredients | info.ingredients | readout.ingredients() | decoding, readout.width or info.dim
    )


@keeping_freed_memory()
def _run_pass(
    info: TeacherInfo,
    readout: Readout,
    splits: Mapping[str, Split],
    todo: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
    keys: Mapping[str, np.ndarray],
    store: FeatureStore,
    folder: Path,
    batch_size: int | None,
    workers: int | None,
    device: str | torch.device,
) -> None:
    """Compute the rows `todo` into `features` and the store; only this frame references the teacher."""
    module = readout.of(build_teacher(info, device).module)
    size = batch_size or pass_batch_size(module, info.preprocess.img_size, torch.device(device))
    for part in (part for part in todo if len(todo[part])):
        shards = _parts(todo[part], store.shard_images)
        plan = [rows for shard in shards for rows in _parts(shard, size)]  # no batch spans two shards
        loader = batch_loader(splits[part], info.preprocess, plan, workers)
        computed = _forward(info, module, track(loader, f"teacher features ({part})", total=len(plan)), device)
        for rows in shards:
            features[part][rows] = _take(computed, len(rows), store.dim)
            store.write(folder, keys[part][rows], features[part][rows])


def _parts(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _forward(
    info: TeacherInfo,
    module: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[np.ndarray | TcsEdgeError],
    device: str | torch.device,
) -> Iterator[np.ndarray]:
    """Compute and check float16 features (B, d) of batches of views, uint8 (B, S, S, 3)."""
    normalized = Normalizer(info.preprocess, torch.device(device))
    for batch in batches:
        if isinstance(batch, TcsEdgeError):
            raise batch
        with torch.inference_mode():
            features = module(normalized(torch.from_numpy(batch))).cpu().numpy()
        _check(info, features, batch)
        yield features.astype(np.float16)


def _take(batches: Iterator[np.ndarray], rows: int, dim: int) -> np.ndarray:
    """Take the next `rows` rows from a stream of batches that end at that row."""
    features = np.empty((rows, dim), np.float16)
    filled = 0
    while filled < rows:
        batch = next(batches)
        features[filled : filled + len(batch)] = batch
        filled += len(batch)
    return features


def _check(info: TeacherInfo, features: np.ndarray, images: np.ndarray) -> None:
    """Refuse unusable features, float32 (B, d), of views, uint8 (B, S, S, 3)."""
    if not np.isfinite(features).all():
        raise DataError(_broken(info, "give NaN or Inf"))
    if np.abs(features).max() > _FP16_MAX:
        raise DataError(_broken(info, f"reach {np.abs(features).max():.3g}, above the fp16 limit of {_FP16_MAX:g}"))
    same_rows = len(features) > 1 and np.ptp(features, axis=0).max() == 0
    if same_rows and np.ptp(images, axis=0).max() > 0:
        raise DataError(_broken(info, "are the same for different images"))
    if features.shape[1] > 1 and np.ptp(features, axis=1).max() == 0:
        raise DataError(_broken(info, "are constant"))
    if features.shape[1] > 1 and np.ptp(features.astype(np.float16), axis=1).max() == 0:
        raise DataError(_broken(info, f"reach {np.abs(features).max():.3g}, and fp16 does not hold their differences"))


def _broken(info: TeacherInfo, what: str) -> str:
    return f"the features of teacher {info.name!r} ({info.weights_source}) {what}. {info.fix}"


def _free_memory(device: str | torch.device) -> None:
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()

"""Gray thumbnails and simple measures of images, by which images are compared without a teacher.

Every image is decoded once. The results are cached by the content of the image, beside the teachers' features.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter1d

from tcs_edge.data.images import Split
from tcs_edge.data.parallel import map_images
from tcs_edge.data.thumbnail import SIDE_PX, gray_thumbnail
from tcs_edge.teachers.cache import FeatureStore
from tcs_edge.teachers.features import feature_keys
from tcs_edge.utils.cache_folder import default_cache_dir
from tcs_edge.utils.progress import track

MEASURED_PX = 256  # longer side of the image that is measured
BLUR_WIDTH = 11  # pixels of the box filter, as in scikit-image's `blur_effect`
MEASURES = ("dark", "bright", "blur", "range")
VERSION = 1  # increase it when a thumbnail or a measure changes
_SHARD_IMAGES = 2048
_ROLE = {"model": "gray thumbnails", "role": "check", "readout": "with measures", "preprocess": {"img_size": SIDE_PX}}


@dataclass(frozen=True)
class Thumbnails:
    """Thumbnails and measures of N images.

    Attributes:
        gray: uint8 (N, 32, 32); the aspect ratio is not kept.
        dark: 95th percentile of the gray values, 0..255; low for a dark image.
        bright: 5th percentile of the gray values, 0..255; high for an overexposed image.
        blur: blur effect of Crete et al. ("The blur effect: perception and estimation with a new no-reference
            perceptual blur metric", SPIE 2007), 0 (sharp) to 1.
        range: largest difference of two gray values, 0..255.
    """

    gray: np.ndarray
    dark: np.ndarray
    bright: np.ndarray
    blur: np.ndarray
    range: np.ndarray


def thumbnails_of(split: Split, cache_dir: Path | None = None) -> Thumbnails:
    """Return the thumbnails of all images; those that are not cached are decoded.

    Raises:
        DataError: an image that can no longer be read. MissingError: the cache folder cannot be written.
    """
    root = default_cache_dir() if cache_dir is None else Path(cache_dir)
    store = FeatureStore(root, _ROLE | {"version": VERSION}, SIDE_PX**2 + len(MEASURES), _SHARD_IMAGES)
    keys = feature_keys(split)
    rows, known = store.read(keys)
    todo = np.flatnonzero(~known)
    if len(todo):
        with store.owned(keys) as folder, closing(_computed(split, todo)) as found:
            shown = track(found, "Looking at images", total=len(todo))
            for start in range(0, len(todo), _SHARD_IMAGES):
                part = todo[start : start + _SHARD_IMAGES]
                for row in part:
                    rows[row] = next(shown)
                store.write(folder, keys[part], rows[part])
    gray = rows[:, : SIDE_PX**2].astype(np.uint8).reshape(-1, SIDE_PX, SIDE_PX)
    return Thumbnails(gray, *rows[:, SIDE_PX**2 :].T.astype(np.float32))


def _computed(split: Split, rows: np.ndarray):  # type: ignore[no-untyped-def]
    return map_images(lambda row: _measure(split.image(int(row))), rows.tolist(), split.decoded_bytes)


def _measure(image: Image.Image) -> np.ndarray:
    """Return the thumbnail and the measures of an RGB image, float16 (1028,)."""
    gray, small = image.convert("L"), gray_thumbnail(image).astype(np.float32)
    gray.thumbnail((MEASURED_PX, MEASURED_PX), Image.Resampling.BILINEAR)
    pixels = np.asarray(gray, np.float32)
    low, high = np.percentile(pixels, [5, 95])
    measures = [high, low, blur_effect(pixels), np.ptp(pixels)]
    return np.concatenate([small.ravel(), measures]).astype(np.float16)


def blur_effect(pixels: np.ndarray) -> float:
    """Compute the blur effect of gray values (H, W): 0 for a sharp image, 1 for a blurred or an even one."""
    shares = []
    for axis in (0, 1):
        sharp = np.abs(np.diff(pixels, axis=axis))
        blurred = np.abs(np.diff(uniform_filter1d(pixels, BLUR_WIDTH, axis=axis), axis=axis))
        total = float(sharp.sum())
        shares.append(1 - float(np.maximum(0, sharp - blurred).sum()) / total if total else 1.0)
    return max(shares)

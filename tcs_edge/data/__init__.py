"""Image data: folders and the built-in digits, splits, preprocessing, augmentation, loaders.

`augment` and `loader` need torch, so import them by name. This module itself works without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tcs_edge.data.images import ImageSet, Skipped, Split
from tcs_edge.data.intake_photos import IntakePhotos
from tcs_edge.data.preprocess import Preprocess

__all__ = ["ImageSet", "Preprocess", "Skipped", "Split", "load_images"]


def load_images(
    folder: Path | None,
    seed: int = 0,
    exclude: Sequence[str] = (),
    cache_dir: Path | None = None,
    columns: Sequence[str] = (),
    allow_leaks: bool = True,
    photos: IntakePhotos | None = None,
) -> ImageSet:
    """Load, check and split the images of `folder`, or the built-in digits when `folder` is None.

    Args:
        folder: train/, val/ and test/ with one folder per class each, or one folder per class. Or another form of
            such data, as for `find.find`: a table, archives, or a data set of the hub.
        seed: seed of the splits that the folder does not contain.
        exclude: glob patterns on names of folders and files to leave out; @FILE names a file, as for
            `exclude.read_exclusion`.
        cache_dir: folder of the store of earlier checks; default $TCS_EDGE_CACHE or the user's cache folder.
        columns: names of a table's columns, as in ["label=species"].
        allow_leaks: False refuses images that are in train and in test; True warns about them.
        photos: keeps the large photos that are decoded for the check.

    Raises:
        DataError: the folder is missing, empty, damaged or too small to split, or has such images.
    """
    if folder is None:
        from tcs_edge.data.digits import digits  # scikit-learn takes a second to import

        return digits()
    from tcs_edge.data.folders import load_data

    return load_data(Path(folder), seed, exclude, cache_dir, columns, allow_leaks, photos)

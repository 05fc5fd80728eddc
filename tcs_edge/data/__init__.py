"""Images in: folders and the built-in digits, splits, preprocessing, augmentation, loaders.

`augment` and `loader` need torch and are imported by name; everything here does without it.
"""

from __future__ import annotations

from pathlib import Path

from tcs_edge.data.images import ImageSet, Skipped, Split
from tcs_edge.data.preprocess import Preprocess

__all__ = ["ImageSet", "Preprocess", "Skipped", "Split", "load_images"]


def load_images(folder: Path | None, seed: int = 0) -> ImageSet:
    """The images of `folder`, checked and split; the built-in digits when there is no folder.

    Args:
        folder: train/ val/ test/ with one folder per class each, or one folder per class.
        seed: draws the splits that the folder does not bring itself.

    Raises:
        DataError: the folder is missing, empty, broken or cannot be split.
    """
    if folder is None:
        from tcs_edge.data.digits import digits  # scikit-learn takes a second to import

        return digits()
    from tcs_edge.data.folders import load_folder

    return load_folder(Path(folder), seed)

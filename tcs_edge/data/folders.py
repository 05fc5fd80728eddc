"""Loading of an image folder: list, decode every image once, split, and warn about leakage.

Missing splits are drawn by these rules:

- One folder per class: 80 % train, 10 % val, 10 % test of every class.
- train/ and one of val/ and test/: the held-out folder becomes test under either name, so that
  nothing is tuned on it. The split val is 10 % of train.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np

from tcs_edge.data.decode import MAX_12_BIT, MAX_16_BIT, Inspected, decoded_bytes, inspect
from tcs_edge.data.images import ImageSet, Skipped, Split, fingerprint
from tcs_edge.data.layout import Found, find_images
from tcs_edge.data.listing import name_some
from tcs_edge.data.parallel import map_images
from tcs_edge.data.splits import conflicting, draw_splits
from tcs_edge.errors import DataError
from tcs_edge.utils.files import sha256_file
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

MAX_UNREADABLE = 0.01
FEW_LEVELS = 64  # of 256; 16-bit images that use no more are probably scaled wrongly
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Checked:
    """A decodable image with the sha256 of its file."""

    found: Found
    content: str
    pixels: Inspected


def load_folder(folder: Path, seed: int = 0, exclude: Sequence[str] = ()) -> ImageSet:
    """Load `folder` as train, val and test; decode every image once to check it.

    Args:
        exclude: glob patterns on names of folders and files to leave out.

    Raises:
        DataError: see `find_images`; or more than 1 % of the images cannot be read, or a class
            is too small to split.
    """
    listed = find_images(folder, exclude)
    checked, skipped = check_all(listed)
    refuse_many(folder, skipped, sum(map(len, listed.values())))
    classes = tuple(sorted({found.class_name for found in listed.get("all", listed.get("train", []))}))
    _require_every_class(classes, checked)
    _warn_conflicts([image for images in checked.values() for image in images])
    parts = _complete(checked, classes, seed)
    _warn_leaks(parts)
    return _image_set(folder, classes, parts, skipped)


def load_held_out(folder: Path, exclude: Sequence[str] = ()) -> tuple[tuple[str, ...], Split]:
    """Load the classes of `folder` and its images for evaluating a finished model, each decoded once.

    The images are those in test/, else those in val/, else all images of a folder without splits.

    Args:
        exclude: glob patterns on names of folders and files to leave out.

    Raises:
        DataError: see `find_images`; or more than 1 % of the images cannot be read.
    """
    listed = find_images(folder, exclude)
    part = next(name for name in ("test", "val", "all") if name in listed)
    checked, skipped = check_all({part: listed[part]})
    refuse_many(folder, skipped, len(listed[part]))
    classes = tuple(sorted({found.class_name for found in listed.get("all", listed.get("train", []))}))
    return classes, _split(checked[part], classes)


def check_all(listed: dict[str, list[Found]]) -> tuple[dict[str, list[Checked]], tuple[Skipped, ...]]:
    """Decode every image and return (readable images by split, in order; skipped images)."""
    jobs = [(part, found) for part, images in listed.items() for found in images]
    cost = partial(decoded_bytes, check_only=True)
    with closing(map_images(_check, [found for _, found in jobs], lambda found: cost(found.path))) as outcomes:
        tracked = track(outcomes, "Checking images", total=len(jobs))
        results = list(zip([part for part, _ in jobs], tracked, strict=True))
    good = {part: [out for p, out in results if p == part and isinstance(out, Checked)] for part in listed}
    _warn_levels([out.pixels for _, out in results if isinstance(out, Checked)])
    return good, tuple(out for _, out in results if isinstance(out, Skipped))


def _check(found: Found) -> Checked | Skipped:
    pixels = inspect(found.path)
    if pixels.reason:
        return Skipped(found.name, pixels.reason)
    return Checked(found, sha256_file(found.path), pixels)


def _warn_levels(images: Sequence[Inspected]) -> None:
    """Warn about 16-bit images that the scaling to 8 bits does not fit."""
    gray = [image.peak for image in images if image.peak is not None and not image.color]
    color = [image.peak for image in images if image.peak is not None and image.color]
    small = [peak for peak in gray if peak <= MAX_12_BIT]
    if 0 < len(small) < len(gray):
        logger.warning(
            f"16-bit gray images: {len(small)} of {len(gray)} have no value above {MAX_12_BIT} and are scaled as "
            "12 bits, the others as 16 bits. If all come from one camera, scale them to 0..65535 yourself."
        )
    for kind, peaks, top in (
        ("gray", small, MAX_12_BIT),
        ("gray", [peak for peak in gray if peak > MAX_12_BIT], MAX_16_BIT),
        ("color", color, MAX_16_BIT),
    ):
        if peaks and (levels := max(peaks) * 255 // top + 1) <= FEW_LEVELS:
            logger.warning(
                f"16-bit {kind} images: {len(peaks)} use at most {levels} of 256 levels (largest value {max(peaks)}). "
                "Scale them to 0..65535."
            )


def refuse_many(folder: Path, skipped: Sequence[Skipped], total: int) -> None:
    """Warn about the skipped images of `folder`.

    Raises:
        DataError: more than 1 % of the `total` images were skipped.
    """
    if not skipped:
        return
    named = name_some([f"{bad.path} ({bad.reason})" for bad in skipped])
    if len(skipped) > MAX_UNREADABLE * total:
        raise DataError(
            f"{folder}: {len(skipped)} of {total} images cannot be read, more than "
            f"{MAX_UNREADABLE:.0%}: {named}. Replace or remove them."
        )
    logger.warning(f"{folder}: skipped {len(skipped)} of {total} images, which cannot be read: {named}")


def _require_every_class(classes: Sequence[str], checked: dict[str, list[Checked]]) -> None:
    for part in checked.keys() & {"all", "train"}:
        present = {image.found.class_name for image in checked[part]}
        if gone := [name for name in classes if name not in present]:
            raise DataError(f"class {gone[0]!r} has no readable images. Replace them or remove the class.")


def _warn_conflicts(images: Sequence[Checked]) -> None:
    labels = [image.found.class_name for image in images]
    disputed = conflicting(labels, [image.content for image in images])
    if names := [image.found.name for image in images if image.content in disputed]:
        logger.warning(f"identical images with different labels: {len(names)} ({name_some(names)})")


def _complete(checked: dict[str, list[Checked]], classes: Sequence[str], seed: int) -> dict[str, list[Checked]]:
    """Return train, val and test; draw the splits that the folder lacks by the rules of this module."""
    if "all" in checked:
        return _draw(checked["all"], classes, ("test", "val"), seed)
    if set(checked) == set(PARTS):
        return checked
    held_out = "test" if "test" in checked else "val"
    drawn = _draw(checked["train"], classes, ("val",), seed)
    logger.info(
        f"splits: {held_out}/ is used as test ({len(checked[held_out])} images), "
        f"val is drawn from train ({len(drawn['val'])} images)"
    )
    return {**drawn, "test": checked[held_out]}


def _draw(
    images: Sequence[Checked], classes: Sequence[str], held_out: Sequence[str], seed: int
) -> dict[str, list[Checked]]:
    labels = [classes.index(image.found.class_name) for image in images]
    rows = draw_splits(labels, [image.content for image in images], classes, held_out, seed)
    return {part: [images[row] for row in chosen] for part, chosen in rows.items()}


def _warn_leaks(parts: dict[str, list[Checked]]) -> None:
    for seen, graded in combinations(PARTS, 2):
        known = {image.content for image in parts[seen]}
        if names := [image.found.name for image in parts[graded] if image.content in known]:
            logger.warning(
                f"leakage: {len(names)} images of {graded} are also in {seen}: {name_some(names)}. "
                f"Results on {graded} will be too optimistic. Remove the copies."
            )


def _image_set(
    folder: Path, classes: tuple[str, ...], parts: dict[str, list[Checked]], skipped: tuple[Skipped, ...]
) -> ImageSet:
    train, val, test = (_split(parts[part], classes) for part in PARTS)
    contents = [[image.content for image in parts[part]] for part in PARTS]
    mark = fingerprint(classes, zip((train, val, test), contents, strict=True))
    return ImageSet(folder.resolve().name, classes, train, val, test, fingerprint=mark, skipped=skipped)


def _split(images: Sequence[Checked], classes: tuple[str, ...]) -> Split:
    position = {name: label for label, name in enumerate(classes)}
    labels = np.array([position[image.found.class_name] for image in images], dtype=np.int64)
    return Split(tuple(i.found.path for i in images), labels, tuple(i.found.name for i in images))

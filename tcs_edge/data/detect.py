"""Detection of image folders for a classifier from file names alone; `find_images` validates them later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tcs_edge.data.formats import has_image_suffix
from tcs_edge.data.listing import RUN_MARKER, is_clutter
from tcs_edge.data.split_names import is_full_split, split_role
from tcs_edge.utils.shortage import raise_shortage

LOOKED_AT = 200  # entries of a class folder to read before treating it as a folder without images
Layout = Literal["splits", "classes"]


@dataclass(frozen=True)
class DetectedFolder:
    """A folder of images, its layout and its number of classes."""

    path: Path
    layout: Layout
    classes: int

    def __str__(self) -> str:
        kind = "train/ with val/ or test/" if self.layout == "splits" else "one folder per class"
        return f"{self.path} ({kind}, {self.classes} classes)"


def detect_image_folders(here: Path) -> tuple[DetectedFolder, ...]:
    """Return `here` and its subfolders that hold images in a known layout, most likely first.

    Folders with splits come before folders with classes only. Subfolders come before `here` itself.
    """
    places = [*_subfolders(here), here]
    found = [detected for place in places if (detected := _detect(place)) is not None]
    return tuple(sorted(found, key=lambda folder: folder.layout != "splits"))


def _detect(folder: Path) -> DetectedFolder | None:
    parts = {part: child for child in _subfolders(folder) if (part := split_role(child.name))}
    if is_full_split(parts) and (classes := _count_classes(parts["train"])) > 1:
        return DetectedFolder(folder, "splits", classes)
    classes = 0 if parts else _count_classes(folder)
    return DetectedFolder(folder, "classes", classes) if classes > 1 else None


def _count_classes(folder: Path) -> int:
    return sum(any(has_image_suffix(name) for name in _first_names(child)) for child in _subfolders(folder))


def _subfolders(folder: Path) -> list[Path]:
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        raise_shortage(error)
        return []  # the user did not name this folder, so an unreadable one is skipped
    return [child for child in children if not is_clutter(child.name) and _is_usable(child)]


def _is_usable(child: Path) -> bool:
    return child.is_dir() and not (child / RUN_MARKER).is_file()


def _first_names(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(LOOKED_AT), entries, strict=False):
                yield entry.name
    except OSError as error:
        raise_shortage(error)
        return

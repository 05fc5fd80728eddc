"""Readers of images: a folder, a table, archives, WebDataset shards, or a Hugging Face data set, by the path.

All readers produce the same index. The same images under the same names give the same splits and fingerprint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from tcs_edge.data import archives, tables
from tcs_edge.data.archives import ArchiveListing, merged, read_archives
from tcs_edge.data.compact import Texts
from tcs_edge.data.decode import open_rgb
from tcs_edge.data.exclude import read_exclusion
from tcs_edge.data.hub import find_dataset, is_dataset
from tcs_edge.data.index import Listed, unlabeled_listing
from tcs_edge.data.layout import find_files, find_images, find_in
from tcs_edge.data.sources import Files
from tcs_edge.data.webdataset import find_samples, is_webdataset
from tcs_edge.errors import DataError, UsageError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_FILES = 100_000


def find(data: Path, exclude: Sequence[str] = (), columns: Mapping[str, str] | None = None) -> Listed:
    """List the images of `data`.

    Args:
        data: a folder; a .csv, .tsv or .parquet file; .zip or .tar files, as in shards/{000..099}.tar; hf://NAME.
        exclude: glob patterns on names of folders and files to leave out, and files as for `exclude.read_exclusion`.
        columns: names of columns by role, as from `columns.given_columns`.

    Raises:
        DataError, MissingError: as the readers.
        UsageError: columns for data without columns.
    """
    exclusion = read_exclusion(exclude)
    return exclusion.applied(_find(data, exclusion.patterns, columns))


def _find(data: Path, exclude: Sequence[str], columns: Mapping[str, str] | None) -> Listed:
    if is_dataset(data):
        return find_dataset(data, exclude, columns)
    suffix = data.suffix.lower()
    if not data.is_dir() and suffix in tables.SUFFIXES:
        return tables.find_table(data, exclude, columns)
    if not data.is_dir() and suffix in archives.SUFFIXES:
        return _find_archives(data, exclude, columns)
    if data.is_file():
        raise DataError(f"{data} {_other_file(data)}")
    if columns:
        raise UsageError(f"--column names columns of a table, but {data} is a folder. Leave it out.")
    return find_images(data, exclude)


def _other_file(path: Path) -> str:
    if path.name.casefold().endswith((".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")):
        return "is compressed. Unpack it to a folder or to a plain .tar."
    return f"is a file. Pass a folder, or a file that ends in {', '.join((*tables.SUFFIXES, *archives.SUFFIXES))}."


def opener_of(data: Path, columns: Mapping[str, str] | None = None) -> Callable[[str], Image.Image]:
    """Return a function that opens an image of `data` by its name, as upright RGB.

    It raises a DataError for an unknown name or an unreadable image.

    Raises:
        DataError, MissingError, UsageError: as `find`.
    """
    listed = find(data, (), columns)
    row_of = {name: row for row, name in enumerate(listed.names)}

    def open_image(name: str) -> Image.Image:
        if name not in row_of:
            raise DataError(f"{name!r} is not an image of {data}")
        return open_rgb(listed.sources[row_of[name]])

    return open_image


def find_unlabeled(data: Path, exclude: Sequence[str], prefix: str) -> Listed:
    """List the images of a folder or of archives without their labels, at any depth.

    Args:
        prefix: start of the names of the images.

    Raises:
        DataError: as `layout.find_files` and `archives.read_archives`; or an archive without images.
    """
    exclusion = read_exclusion(exclude)
    return exclusion.applied(_find_unlabeled(data, exclusion.patterns, prefix))


def _find_unlabeled(data: Path, exclude: Sequence[str], prefix: str) -> Listed:
    packed = not data.is_dir() and data.suffix.lower() in archives.SUFFIXES
    if is_dataset(data) or (data.is_file() and not packed):
        raise DataError(f"{data} cannot be unlabeled images. Pass --unlabeled with a folder, a .zip or a .tar.")
    if not packed:
        names = find_files(data, exclude)
        return unlabeled_listing(data, names, Files(data, names), prefix)
    archive = merged(read_archives(expanded(data)), data)
    listing = ArchiveListing(archive, tuple(exclude))
    names = Texts.of(listing.image_names(listing.root))
    if not names:
        raise DataError(f"no images in {data}: {listing.unread_line() or 'pack JPEG or PNG files.'}")
    listing.report()
    return unlabeled_listing(data, names, archive.sources(names), prefix)


def is_at_hand(data: Path) -> bool:
    """Return True if a folder or file that `find` can read is there; a data set on the hub may need a download."""
    if is_dataset(data):
        return True
    return data.is_dir() or all(path.is_file() for path in expanded(data))


def expanded(pattern: Path) -> list[Path]:
    """Return the paths of a pattern such as shards/{000..099}.tar or {train,val}.tar, in order."""
    text = str(pattern)
    if any(mark in text for mark in "*?") and not pattern.exists():
        raise DataError(f"{pattern} is a pattern. Name the files by a range in braces, as in shards/{{000..099}}.tar.")
    choices = [_choices(body) for body in _BRACES.findall(text)]
    if not choices or pattern.exists():
        return [pattern]
    if np.prod([float(len(one)) for one in choices]) > _MOST_FILES:
        raise DataError(f"{pattern} names more than {_MOST_FILES} files. Use larger shards.")
    parts = _BRACES.split(text)[::2]
    return [
        Path("".join(part + chosen for part, chosen in zip(parts, (*several, ""), strict=True)))
        for several in product(*choices)
    ]


def _choices(body: str) -> list[str]:
    found = _RANGE.fullmatch(body)
    if not found:
        return body.split(",")
    first, last = found.groups()
    if int(first) > int(last):
        raise DataError(f"{{{body}}} counts down. Write {{{last}..{first}}}.")
    width = len(first) if first.startswith("0") or len(first) == len(last) else 0
    if int(last) - int(first) > _MOST_FILES:
        raise DataError(f"{{{body}}} names more than {_MOST_FILES} files. Use larger shards.")
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]


def _find_archives(data: Path, exclude: Sequence[str], columns: Mapping[str, str] | None) -> Listed:
    shards = read_archives(expanded(data))
    if is_webdataset(shards):
        return find_samples(shards, data, exclude, columns)
    if columns:
        raise UsageError(f"--column names columns of a table, but {data} has folders. Leave it out.")
    archive = merged(shards, data).below_top()
    listed = find_in(ArchiveListing(archive, tuple(exclude)))
    return replace(listed, origin=data, sources=archive.sources(listed.names))

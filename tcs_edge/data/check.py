"""Check of images at intake: each file is decoded once, hashed, and remembered until it changes."""

from __future__ import annotations

import logging
import os
from array import array
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from tcs_edge.data.decode import Readable, decoded_bytes, inspect
from tcs_edge.data.images import SHA256_BYTES, Skipped, content_hash
from tcs_edge.data.index import Index, Listed
from tcs_edge.data.intake import Entry, Facts, Intake, Stamp, now_ns, open_intake
from tcs_edge.data.intake_photos import IntakePhotos
from tcs_edge.data.listing import name_some
from tcs_edge.data.parallel import map_images
from tcs_edge.data.pixels import MAX_12_BIT, MAX_16_BIT
from tcs_edge.data.thumbnail import SKETCH_BYTES
from tcs_edge.errors import DataError
from tcs_edge.utils.progress import track
from tcs_edge.utils.shortage import raise_shortage

logger = logging.getLogger(__name__)

MAX_UNREADABLE = 0.01
FEW_LEVELS = 64  # of 256; 16-bit images that use no more are probably scaled wrongly
_LOOKED_UP = 4096  # images that are looked up in the store at a time
_STORED = 1024  # checks that an interrupted command can lose
_NO_PEAK = -1


@dataclass(frozen=True)
class _Outcome:
    """Check of one image: why it is unreadable, or its entry and True if it may be stored."""

    reason: str | None
    entry: Entry | None = None
    steady: bool = False


@dataclass
class _Table:
    """Results of the check of N images, in arrays.

    Attributes:
        readable: bool (N,).
        sketches: int8 (N, 48), see `thumbnail.sketch`.
        peaks: int32 (N,), largest value of a 16-bit image, else `_NO_PEAK`; `color` is True for 16-bit color.
        skipped: the unreadable images.
    """

    readable: np.ndarray
    contents: np.ndarray
    sizes: np.ndarray
    sketches: np.ndarray
    peaks: np.ndarray
    color: np.ndarray
    skipped: dict[int, Skipped] = field(default_factory=dict)

    @classmethod
    def empty(cls, count: int) -> _Table:
        return cls(
            np.zeros(count, bool),
            np.empty((count, SHA256_BYTES), np.uint8),
            np.empty((count, 2), np.int32),
            np.zeros((count, SKETCH_BYTES), np.int8),
            np.full(count, _NO_PEAK, np.int32),
            np.zeros(count, bool),
        )

    def put(self, row: int, facts: Facts) -> None:
        self.readable[row] = True
        self.contents[row] = np.frombuffer(facts.content, np.uint8)
        self.sizes[row] = facts.width, facts.height
        self.sketches[row] = np.frombuffer(facts.sketch, np.int8)
        self.peaks[row] = _NO_PEAK if facts.peak is None else facts.peak
        self.color[row] = facts.color


def check_all(
    listed: Listed, cache_dir: Path | None = None, photos: IntakePhotos | None = None
) -> tuple[Index, tuple[Skipped, ...]]:
    """Decode and hash every image that is new or has changed; warn about 16-bit images with few levels.

    Args:
        cache_dir: folder of the store of earlier checks; default `default_cache_dir()`.
        photos: keeps the large photos that are decoded.

    Returns:
        The readable images, in order, and the skipped ones.
    """
    table = _Table.empty(len(listed))
    with open_intake(cache_dir) as intake:
        todo, racy = _look_up(listed, intake, table)
        if todo:
            _check_rows(listed, todo, racy, intake, table, photos)
    rows = np.flatnonzero(table.readable)
    _warn_levels(table.peaks[rows], table.color[rows])
    index = Index(listed, rows, table.contents[rows], table.sizes[rows], table.sketches[rows])
    return index, tuple(table.skipped[row] for row in sorted(table.skipped))


def _look_up(listed: Listed, intake: Intake, table: _Table) -> tuple[array[int], dict[int, Entry]]:
    """Fill `table` from the store; return the rows to check, and their entries if only the bytes need a look."""
    todo: array[int] = array("q")
    racy: dict[int, Entry] = {}
    for start in range(0, len(listed), _LOOKED_UP):
        rows = range(start, min(start + _LOOKED_UP, len(listed)))
        places = [listed.sources.place(row) for row in rows]
        known = _entries(places, intake)
        for row, (folder, name) in zip(rows, places, strict=True):
            entry = known[folder].get(name)
            if entry is None or _stamp(listed.sources.file(row)) != entry.stamp:
                todo.append(row)
            elif entry.racy:
                todo.append(row)
                racy[row] = entry
            else:
                table.put(row, entry.facts)
    return todo, racy


def _entries(places: Sequence[tuple[str, str]], intake: Intake) -> dict[str, dict[str, Entry]]:
    """Return the stored entries by folder and name, with one query for each folder."""
    names: dict[str, list[str]] = defaultdict(list)
    for folder, name in places:
        names[folder].append(name)
    return {folder: intake.entries(folder, sorted(named, key=os.fsencode)) for folder, named in names.items()}


def _stamp(path: str) -> Stamp | None:
    try:
        return Stamp.of(path)
    except (OSError, ValueError):
        return None


def _check_rows(
    listed: Listed,
    todo: Sequence[int],
    racy: dict[int, Entry],
    intake: Intake,
    table: _Table,
    photos: IntakePhotos | None,
) -> None:
    """Check the rows `todo` in threads, and store the results in `table` and in the store."""
    cost = partial(decoded_bytes, check_only=True)
    new: list[tuple[str, str, Entry]] = []
    sources = listed.sources
    checked = map_images(
        lambda row: _check(sources[row], sources.file(row), racy.get(row), photos),
        todo,
        lambda row: cost(sources[row]),
    )
    with closing(checked) as outcomes:
        try:
            for row, found in zip(todo, track(outcomes, "Checking images", total=len(todo)), strict=True):
                if found.entry is None:
                    table.skipped[row] = Skipped(listed.names[row], _placed(listed, row, found.reason or ""))
                    continue
                table.put(row, found.entry.facts)
                if found.steady:
                    new.append((*sources.place(row), found.entry))
                if len(new) == _STORED:
                    intake.add(new)
                    new = []
        finally:
            intake.add(new)


def _placed(listed: Listed, row: int, reason: str) -> str:
    """Return the reason with the image's place in a table, such as "row 7: no such file or directory"."""
    return f"{listed.where[row].strip('()')}: {reason}" if listed.where else reason


def _check(source: Path | Readable, file: str, known: Entry | None, photos: IntakePhotos | None) -> _Outcome:
    """Decode and hash an image in `file`. The bytes of an earlier check, `known`, are not decoded again."""
    before, read_ns, photo = _stamp(file), now_ns(), None
    try:
        if known and content_hash(source) == known.facts.content:
            facts = known.facts
        else:
            found = inspect(source)
            if found.reason:
                return _Outcome(found.reason)
            facts = Facts(content_hash(source), found.width, found.height, found.peak, found.color, found.sketch)
            photo = found.photo
    except OSError as error:  # removed in the meantime
        raise_shortage(error)
        return _Outcome((error.strerror or "not readable").lower())
    except DataError as error:  # an archive that changed in the meantime
        return _Outcome(str(error))
    if before is None:
        return _Outcome(None, Entry(Stamp(0, 0, 0), 0, facts))
    steady = _stamp(file) == before
    if photos and photo and steady:
        photos.put(facts.content, photo)
    return _Outcome(None, Entry(before, read_ns, facts), steady)


def _warn_levels(peaks: np.ndarray, color: np.ndarray) -> None:
    """Warn about 16-bit images that the scaling to 8 bits does not fit.

    Args:
        peaks: int32 (N,), largest value of each 16-bit image, else `_NO_PEAK`.
        color: bool (N,), True for 16-bit color.
    """
    deep = peaks != _NO_PEAK
    gray, colored = peaks[deep & ~color], peaks[deep & color]
    small = gray[gray <= MAX_12_BIT]
    if 0 < len(small) < len(gray):
        logger.warning(
            f"16-bit gray images: {len(small)} of {len(gray)} have no value above {MAX_12_BIT} and are scaled as "
            "12 bits, the others as 16 bits. If all come from one camera, scale them to 0..65535 yourself."
        )
    for kind, found, top in (
        ("gray", small, MAX_12_BIT),
        ("gray", gray[gray > MAX_12_BIT], MAX_16_BIT),
        ("color", colored, MAX_16_BIT),
    ):
        if len(found) and (levels := int(found.max()) * 255 // top + 1) <= FEW_LEVELS:
            logger.warning(
                f"16-bit {kind} images: {len(found)} use at most {levels} of 256 levels (largest value {found.max()}). "
                "Scale them to 0..65535."
            )


def refuse_many(origin: Path, skipped: Sequence[Skipped], total: int) -> None:
    """Warn about the skipped images of a folder or file.

    Raises:
        DataError: more than 1 % of the `total` images were skipped.
    """
    if not skipped:
        return
    named = name_some([f"{bad.path} ({bad.reason})" for bad in skipped])
    if len(skipped) > MAX_UNREADABLE * total:
        raise DataError(
            f"{origin}: {len(skipped)} of {total} images cannot be read, more than "
            f"{MAX_UNREADABLE:.0%}: {named}. Replace or remove them."
        )
    logger.warning(f"{origin}: skipped {len(skipped)} of {total} images, which cannot be read: {named}")

"""What `--exclude` leaves out: patterns, and files with the names of images to drop or to relabel.

A value such as @drop.txt names a file. Each of its lines is the name of an image, as `tcs-edge check` prints it: the
path relative to the data, with forward slashes. Such an image is dropped. A tab and a class after the name give the
image that label instead. Empty lines and lines that start with # are left out. A name that starts with #, " or a blank,
or has a tab or line break, is written as a JSON string.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tcs_edge.data.images import UNLABELED
from tcs_edge.data.index import Listed
from tcs_edge.data.listing import name_some
from tcs_edge.errors import DataError, short
from tcs_edge.utils.reading import read_regular

logger = logging.getLogger(__name__)

MARK = "@"  # start of a value that names a file
_MOST_BYTES = 500_000_000


@dataclass(frozen=True)
class Exclusion:
    """Parsed values of `--exclude`.

    Attributes:
        patterns: glob patterns on names of folders and files.
        dropped: names of images to leave out.
        labels: class by the name of an image to relabel.
        files: the files that were read.
    """

    patterns: tuple[str, ...]
    dropped: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    def applied(self, listed: Listed) -> Listed:
        """Return the images of a reader without the dropped ones, with their new labels.

        Names of a file that the images lack are counted in the log: a file stays usable after its images are deleted.

        Raises:
            DataError: a new label is not a class of the images, or no image is left.
        """
        if not self.files:
            return listed
        number = {name: position for position, name in enumerate(listed.classes)}
        labels, kept = listed.labels.copy(), np.ones(len(listed), bool)
        known: set[str] = set()
        for row, name in enumerate(listed.names):
            if name in self.dropped:
                kept[row] = False
            elif name in self.labels and labels[row] != UNLABELED:
                labels[row] = self._number(name, number)
            else:
                continue
            known.add(name)
        self._report(known, int((~kept).sum()))
        rows = np.flatnonzero(kept)
        for number_of_part, part in enumerate(listed.parts):
            if not (listed.part[rows] == number_of_part).any():
                where = str(listed.origin) if len(listed.parts) == 1 else f"the split {part} of {listed.origin}"
                raise DataError(f"{self._named()} leaves no image in {where}. Remove lines from it.")
        return replace(listed, labels=labels).take(rows)

    def _number(self, name: str, number: Mapping[str, int]) -> int:
        label = self.labels[name]
        if label not in number:
            classes = name_some(sorted(number))
            raise DataError(f"{self._named()}: {name} gets the label {short(label)}, which is no class. Use {classes}.")
        return number[label]

    def _report(self, known: set[str], dropped: int) -> None:
        relabeled = len(known) - dropped
        logger.info(f"{self._named()}: images dropped: {dropped}, relabeled: {relabeled}")
        if missing := sorted((self.dropped | self.labels.keys()) - known):
            logger.info(f"{self._named()}: names of no image here: {len(missing)} ({name_some(missing)})")

    def _named(self) -> str:
        return ", ".join(map(str, self.files))


def read_exclusion(values: Sequence[str]) -> Exclusion:
    """Parse the values of `--exclude`, and read the files among them.

    Raises:
        DataError: no such file, or a line that cannot be used; the message names the line.
    """
    patterns = tuple(value for value in values if not value.startswith(MARK))
    files = tuple(Path(value[len(MARK) :]) for value in values if value.startswith(MARK))
    dropped: set[str] = set()
    labels: dict[str, str] = {}
    for path in files:
        for where, name, label in _lines(path):
            if label is None:
                dropped.add(name)
            elif labels.setdefault(name, label) != label:
                raise DataError(f"{where}: {name} gets two labels, {short(labels[name])} and {short(label)}. Keep one.")
    return Exclusion(patterns, frozenset(dropped), labels, files)


def _lines(path: Path) -> list[tuple[str, str, str | None]]:
    if not path.is_file():
        raise DataError(
            f"no such file: {path}, of --exclude {MARK}{path}. "
            f"To leave out an entry of this name, write --exclude '[{MARK}]{path}'."
        )
    try:
        text = read_regular(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8. Save it as UTF-8.") from None
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        name, tab, label = line.partition("\t")
        where = f"{path} line {number}"
        found.append((where, _unquoted(name, where), _unquoted(label, where) if tab else None))
    return found


def _unquoted(text: str, where: str) -> str:
    if text.startswith('"'):
        try:
            text = json.loads(text)
        except ValueError:
            text = ""
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: write NAME, or NAME, a tab and a CLASS. A name in quotes is a JSON string.")
    return text


def exclusion_line(name: str, label: str | None = None) -> str:
    """Return the line that drops an image, or gives it another label."""
    return _quoted(name) + ("" if label is None else f"\t{_quoted(label)}")


def _quoted(text: str) -> str:
    plain = text.isprintable() and text == text.strip() and not text.startswith(("#", '"'))
    return text if plain else json.dumps(text)

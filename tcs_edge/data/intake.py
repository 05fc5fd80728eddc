"""Store of checked images: files that did not change since they were decoded once are not read again.

One SQLite file in the cache folder maps (path, size, times of change) to the sha256 of the bytes, the image's size and
the results of its check. It also holds the near copies that were found in whole sets of images. SQLite lets several
processes write at once, and a killed process leaves the file whole.
The store only saves time: if it cannot be opened or written, every image is checked again.

A file can be rewritten at the same size within one tick of its file system's clock. An entry whose file changed less
than `RACY_NS` before it was read is therefore hashed again, as Git does for its index ("racy Git").
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tcs_edge.data.images import SHA256_BYTES
from tcs_edge.data.thumbnail import SKETCH_BYTES
from tcs_edge.errors import MissingError
from tcs_edge.utils.cache_folder import default_cache_dir
from tcs_edge.utils.files import make_folder

logger = logging.getLogger(__name__)

FILE = "intake.sqlite3"
VERSION = 3  # increase it when a check at intake changes
RACY_NS = 2_000_000_000  # FAT stores times in steps of 2 s; other file systems are finer
MOST_SETS = 256  # sets of images whose near copies are kept
WAIT_S = 30.0  # for another process that writes
_SIDECARS = ("", "-journal", "-wal", "-shm")
_ERRORS = (sqlite3.Error, UnicodeDecodeError)  # the latter of a damaged file, whose message quotes its bytes
_TABLES = """
CREATE TABLE folders (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE);
CREATE TABLE images (
    folder INTEGER NOT NULL, name BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, read_ns INTEGER NOT NULL, sha256 BLOB NOT NULL, width INTEGER NOT NULL,
    height INTEGER NOT NULL, peak INTEGER, color INTEGER NOT NULL, sketch BLOB NOT NULL,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE TABLE copies (number INTEGER PRIMARY KEY, contents BLOB NOT NULL UNIQUE, pairs BLOB NOT NULL);
"""
_COLUMNS = "name, size, mtime_ns, ctime_ns, read_ns, sha256, width, height, peak, color, sketch"


@dataclass(frozen=True, slots=True)
class Stamp:
    """State of a file: size in bytes, times of the last change of content and of any change, in ns since 1970."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Stamp:
        """Return the state of a file now.

        Raises:
            OSError: it is missing.
        """
        found = os.stat(path)  # noqa: PTH116 - 100,000 times in a second
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Facts:
    """Results of the check of a readable image: sha256 of its bytes, and the fields of `decode.Inspected`."""

    content: bytes
    width: int
    height: int
    peak: int | None
    color: bool
    sketch: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored check: the file's state, the time of reading in ns since 1970, and the results."""

    stamp: Stamp
    read_ns: int
    facts: Facts

    @property
    def racy(self) -> bool:
        """True if the file may have been rewritten after it was read, without a change of its stamp."""
        return max(self.stamp.mtime_ns, self.stamp.ctime_ns) > self.read_ns - RACY_NS


class Intake:
    """The open store; without a connection, it is empty and keeps nothing."""

    def __init__(self, connection: sqlite3.Connection | None, path: Path) -> None:
        self._connection, self._path = connection, path
        self._folders: dict[str, int | None] = {}

    def entries(self, folder: str, names: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of files in `folder` between the first and the last of `names`, which are sorted."""
        if self._connection is None or not names:
            return {}
        ends = (os.fsencode(names[0]), os.fsencode(names[-1]))
        try:
            number = self._number(folder)
            query = f"SELECT {_COLUMNS} FROM images WHERE folder = ? AND name BETWEEN ? AND ?"
            rows = self._connection.execute(query, (number, *ends))
            return {os.fsdecode(row[0]): _entry(row) for row in rows if _is_entry(row)}
        except _ERRORS as error:
            self._give_up(error)
            return {}

    def add(self, found: Iterable[tuple[str, str, Entry]]) -> None:
        """Store entries as (folder, name, entry), all or none of them."""
        if self._connection is None:
            return
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                rows = [(self._numbered(folder), *_row(name, entry)) for folder, name, entry in found]
                self._connection.executemany(f"INSERT OR REPLACE INTO images VALUES ({'?, ' * 11}?)", rows)
        except _ERRORS as error:
            self._give_up(error)

    def copies(self, contents: bytes) -> bytes | None:
        """Return the pairs of near copies that `add_copies` stored for a set of images; None if there are none."""
        if self._connection is None:
            return None
        try:
            row = self._connection.execute("SELECT pairs FROM copies WHERE contents = ?", (contents,)).fetchone()
        except _ERRORS as error:
            self._give_up(error)
            return None
        return row[0] if row and isinstance(row[0], bytes) else None

    def add_copies(self, contents: bytes, pairs: bytes) -> None:
        """Store the pairs of near copies of a set of images; only the newest `MOST_SETS` sets are kept."""
        if self._connection is None:
            return
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute(
                    "INSERT OR REPLACE INTO copies (contents, pairs) VALUES (?, ?)", (contents, pairs)
                )
                self._connection.execute(
                    "DELETE FROM copies WHERE number <= (SELECT max(number) FROM copies) - ?", (MOST_SETS,)
                )
        except _ERRORS as error:
            self._give_up(error)

    def _number(self, folder: str) -> int | None:
        if folder not in self._folders and self._connection is not None:
            row = self._connection.execute("SELECT id FROM folders WHERE path = ?", (os.fsencode(folder),)).fetchone()
            if row is None:
                return None
            self._folders[folder] = row[0]
        return self._folders.get(folder)

    def _numbered(self, folder: str) -> int | None:
        if self._number(folder) is None and self._connection is not None:
            self._connection.execute("INSERT INTO folders (path) VALUES (?)", (os.fsencode(folder),))
        return self._number(folder)

    def _give_up(self, error: Exception) -> None:
        self.close()
        if _is_damage(error):
            _replace_damaged(self._path, error)
        else:
            logger.debug(f"image checks: not stored in {self._path} ({error})")

    def close(self) -> None:
        """Close the file; nothing is read or stored afterwards."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None


@contextmanager
def open_intake(cache_dir: Path | None = None) -> Iterator[Intake]:
    """Open the store of a cache folder for the block; create it if needed, and replace a damaged one.

    Args:
        cache_dir: default `default_cache_dir()`.
    """
    path = (default_cache_dir() if cache_dir is None else Path(cache_dir)) / FILE
    intake = Intake(_connection(path), path)
    try:
        yield intake
    finally:
        intake.close()


def remove_intake(cache_dir: Path) -> None:
    """Remove the store; the next command checks all images again."""
    for suffix in _SIDECARS:
        (cache_dir / f"{FILE}{suffix}").unlink(missing_ok=True)


def intake_bytes(cache_dir: Path) -> tuple[int, int]:
    """Return the size of the store in bytes and the number of its images; 0 if there is none."""
    path = cache_dir / FILE
    if not path.is_file():
        return 0, 0
    size = sum(file.stat().st_size for suffix in _SIDECARS if (file := cache_dir / f"{FILE}{suffix}").is_file())
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=WAIT_S)) as connection:
            return size, int(connection.execute("SELECT count(*) FROM images").fetchone()[0])
    except _ERRORS:
        return size, 0


def _connection(path: Path) -> sqlite3.Connection | None:
    try:
        make_folder(path.parent)
        try:
            return _opened(path)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not _is_damage(error):
                raise
            _replace_damaged(path, error)
            return _opened(path)
    except (*_ERRORS, OSError, MissingError) as error:
        logger.debug(f"image checks: not stored in {path} ({error})")
        return None


def _is_damage(error: Exception) -> bool:
    # Subclasses of the first stand for a lock, a missing permission, a full disk: the file may be whole.
    return type(error) in (sqlite3.DatabaseError, UnicodeDecodeError)


def _is_entry(row: tuple[object, ...]) -> bool:
    """Return True for a row with a hash and whole numbers; SQLite stores values of any type in any column."""
    name, content, others = row[0], row[5], (*row[1:5], *row[6:8], row[9])
    return (
        isinstance(name, bytes)
        and isinstance(content, bytes)
        and len(content) == SHA256_BYTES
        and all(isinstance(value, int) for value in others)
        and (row[8] is None or isinstance(row[8], int))
        and isinstance(row[10], bytes)
        and len(row[10]) == SKETCH_BYTES
    )


def _replace_damaged(path: Path, error: Exception) -> None:
    logger.warning(f"image checks: {path} is damaged ({error}). It is replaced, and the images are checked again.")
    remove_intake(path.parent)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            _create(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:  # another process may have been faster
        for table in ("images", "folders", "copies"):
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in filter(str.strip, _TABLES.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _entry(row: tuple[bytes, int, int, int, int, bytes, int, int, int | None, int, bytes]) -> Entry:
    _, size, mtime_ns, ctime_ns, read_ns, content, width, height, peak, color, sketch = row
    return Entry(Stamp(size, mtime_ns, ctime_ns), read_ns, Facts(content, width, height, peak, bool(color), sketch))


def _row(name: str, entry: Entry) -> tuple[object, ...]:
    stamp, facts = entry.stamp, entry.facts
    times = (stamp.size, stamp.mtime_ns, stamp.ctime_ns, entry.read_ns)
    found = (facts.content, facts.width, facts.height, facts.peak, int(facts.color), facts.sketch)
    return (os.fsencode(name), *times, *found)


def now_ns() -> int:
    """Return the time in ns since 1970, for `Entry.read_ns`."""
    return time.time_ns()

"""Listing of zip and tar files as they are: the members that are images, with their places in the file."""

from __future__ import annotations

import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tcs_edge.data.compact import Texts
from tcs_edge.data.formats import has_image_suffix
from tcs_edge.data.listing import Listing, is_clutter
from tcs_edge.data.members import DEFLATED, PLAIN, STORED, Member
from tcs_edge.data.sources import MEMBER_FACTS, Members
from tcs_edge.data.split_names import split_role
from tcs_edge.errors import DataError, reason_of

SUFFIXES = (".zip", ".tar")
_END_OF_TAR = 1024  # bytes of zeros
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}


@dataclass
class Archive:
    """Members of one or several archives, by name.

    Attributes:
        shown: the path that messages name.
    """

    shown: Path
    members: dict[str, Member] = field(default_factory=dict)

    def sources(self, names: Sequence[str]) -> Members:
        """Return the images of these names, in little memory."""
        archives = list(dict.fromkeys(member.archive for member in self.members.values()))
        number = {path: index for index, path in enumerate(archives)}
        facts = np.empty(len(names), MEMBER_FACTS)
        for row, one in enumerate(self.members[name] for name in names):
            facts[row] = (number[one.archive], one.start, one.length, one.size, one.method, one.crc)
        return Members(archives, Texts.of(self.members[name].name for name in names), facts)

    def below_top(self) -> Archive:
        """Return the members without a folder around all of them, unless its name means a split."""
        tops = {name.partition("/")[0] for name in self.members if not _is_clutter(name)}
        inner = {name.partition("/")[2] for name in self.members if not _is_clutter(name)}
        nested = any("/" in name for name in inner)
        stray = any("/" not in name and has_image_suffix(name) for name in inner)
        if len(tops) != 1 or not nested or stray or split_role(top := tops.pop(), short=True):
            return self
        kept = {name.removeprefix(f"{top}/"): member for name, member in self.members.items()}
        return Archive(self.shown / top, kept)


def read_archives(paths: Sequence[Path]) -> list[Archive]:
    """List the files in zip or tar archives; nothing is unpacked.

    Raises:
        DataError: an archive that is missing, damaged, truncated, compressed as a whole, or encrypted, or a member
            whose name leaves the archive or occurs twice.
    """
    return [merged([Archive(path, {_clean(member): member}) for member in _members(path)], path) for path in paths]


def merged(archives: Iterable[Archive], shown: Path) -> Archive:
    """Return the members of several archives as those of one.

    Raises:
        DataError: two members of one name.
    """
    found = Archive(shown)
    for archive in archives:
        for name, member in archive.members.items():
            other = found.members.setdefault(name, member)
            if other is not member:
                raise twice(member, name, other)
    return found


def twice(member: Member, name: str, other: Member) -> DataError:
    """Return the error for two members of one name."""
    return DataError(f"{member.archive} holds {name}, which {other.archive} holds already. Remove one of them.")


def _members(path: Path) -> Iterator[Member]:
    if not path.is_file():
        raise DataError(f"no such file: {path}. Restore it, or leave it out of --data.")
    return _zip_members(path) if path.suffix.lower() == ".zip" else _tar_members(path)


def _clean(member: Member) -> str:
    """Return the name of a member with forward slashes; some programs for Windows write backslashes into a zip."""
    name = member.name
    windows = member.method != PLAIN and "\\" in name and "/" not in name
    pure = PurePosixPath(name.replace("\\", "/") if windows else name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in member.name:
        raise DataError(f"{member.archive}: the path {member.name!r} leaves the archive. Pack it again.")
    return pure.as_posix()


def _zip_members(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} is not a whole zip file: {reason_of(error)}. Pack or download it again.") from None
    for info in infos:
        if info.is_dir():
            continue
        if info.flag_bits & 1:
            raise DataError(f"{path}: {info.filename} is encrypted. Pack the images without a password.")
        if info.compress_type not in (STORED, DEFLATED):
            raise DataError(
                f"{path}: {info.filename} is compressed by method {info.compress_type}. Pack it with deflate or store."
            )
        name = info.filename
        facts = (info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC)
        yield Member(path, name, *facts)


def _tar_members(path: Path) -> Iterator[Member]:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(max(0, size - _END_OF_TAR))
        whole = size >= _END_OF_TAR and not any(file.read(_END_OF_TAR))
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            raise DataError(
                f"{path} is compressed by {name}, so its images cannot be found. Unpack it to a plain .tar."
            )
    try:
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                if info.offset_data + info.size > size:
                    raise DataError(f"{path} is truncated: it ends inside of {info.name}. Pack or download it again.")
                if info.isreg() and not info.issparse():
                    yield Member(path, info.name, info.offset_data, info.size, info.size, PLAIN, 0)
                archive.members = []  # type: ignore[attr-defined]  # it would grow with the file
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"{path} is not a whole tar file: {reason_of(error)}. Pack or download it again.") from None
    if not whole:
        raise DataError(f"{path} is truncated: its end-of-archive mark is missing. Pack or download it again.")


def _is_clutter(name: str) -> bool:
    return any(map(is_clutter, name.split("/")))


@dataclass
class _Entry:
    """An entry of a folder in an archive, with the parts of `os.DirEntry` that a listing uses."""

    name: str
    path: str
    folder: bool

    def is_dir(self) -> bool:
        return self.folder

    def is_file(self) -> bool:
        return not self.folder

    def is_symlink(self) -> bool:
        return False


class ArchiveListing(Listing):
    """Entries of an archive, listed as those of a folder at the path of the archive."""

    def __init__(self, archive: Archive, exclude: tuple[str, ...] = ()) -> None:
        super().__init__(archive.shown, exclude)
        self._tree: dict[Path, dict[str, bool]] = defaultdict(dict)
        for name in archive.members:
            *folders, file = name.split("/")
            place = self.root
            for folder in folders:
                self._tree[place][folder] = True
                place /= folder
            self._tree[place][file] = False

    def _identity(self, folder: Path) -> Any:
        return folder

    def _scan(self, folder: Path) -> Any:
        entries: Iterable[tuple[str, bool]] = sorted(self._tree.get(folder, {}).items())
        return [_Entry(name, str(folder / name), is_folder) for name, is_folder in entries]

"""Listing of folders: entries of other programs, excluded entries and unreadable image formats are left out."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from pathlib import Path

from tcs_edge.data.formats import has_image_suffix, how_to_read, unread_kind
from tcs_edge.errors import DataError
from tcs_edge.utils.shortage import raise_shortage

logger = logging.getLogger(__name__)

RUN_MARKER = "tcs-edge-run.json"  # in every run folder, see runs.folder
SNIFFED_FILES = 1000  # files of unknown suffix to look into, per folder listing
_CLUTTER = frozenset({
    # network storage: Synology, QNAP, Buffalo, ReadyNAS, NetApp
    "@eadir", "@tmp", "@sharebin", "@sharesnap", "@recycle", "@recently-snapshot", "@snapshot", "#recycle", "#snapshot",
    "trashbox", "~snapshot", "nflc_data",
    # file systems
    "lost+found", "network trash folder", "temporary items", "thevolumesettingsfolder",
    # macOS
    "__macosx", "icon\r",
    # Windows
    "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler",
    "recycled", "system volume information",
    # version control and build
    "cvs", "_svn", "_darcs", "__pycache__", "node_modules",
})  # fmt: skip
_CLUTTER_SUFFIXES = (
    ".thm", ".lrv",  # thumbnails and previews of cameras
    ".lrdata", ".photoslibrary", ".aplibrary",  # databases of photo programs, with previews
    "@synoeastream", "@synoresource", ":zone.identifier",
)  # fmt: skip
_RUN_NAME = re.compile(r"\d{4}-\d{2}-\d{2}-.+")  # a run folder without --out
_RECOVERED = re.compile(r"found\.\d{3}")  # chkdsk


def is_clutter(name: str) -> bool:
    """Return True for hidden entries and for the known files and folders of other programs."""
    lower = name.lower()
    return (
        name.startswith(".")
        or lower in _CLUTTER
        or lower.endswith(_CLUTTER_SUFFIXES)
        or _RECOVERED.fullmatch(lower) is not None
    )


def name_some(names: Sequence[str], limit: int = 5) -> str:
    """Join the first `limit` names and the number of the remaining ones."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def path_order(name: str) -> list[str]:
    """Return the key that sorts names with forward slashes as `Path` sorts paths: folder by folder."""
    return os.path.normcase(name).replace(os.sep, "/").split("/")


@dataclass
class Listing:
    """Entries below a folder, and counts of the entries that are left out.

    Attributes:
        root: the folder; patterns with a slash match the path relative to it.
        exclude: glob patterns on names of folders and files, in any case.
        unread: number of image files that cannot be read, by (group, kind of `formats.unread_kind`).
        read: number of image files that can be read, by group.
        others: number of files that are not images.
        excluded: names of the entries that `exclude` leaves out.
        runs: names of run folders of tcs-edge, and of folders that hold nothing else; they are left out.
    """

    root: Path
    exclude: tuple[str, ...] = ()
    unread: Counter[tuple[str, str]] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    others: int = 0
    runs: list[str] = field(default_factory=list)
    _clutter: Counter[str] = field(default_factory=Counter)
    excluded: list[str] = field(default_factory=list)
    _counted: set[str] = field(default_factory=set)
    _runs_in: dict[str, list[str]] = field(default_factory=dict)
    _without_runs: dict[str, list[Path]] = field(default_factory=dict)

    def folders(self, folder: Path) -> list[Path]:
        """List the folders in `folder`, sorted by name."""
        return [Path(entry.path) for entry in self._entries(folder) if _is_folder(entry)]

    def files(self, folder: Path) -> list[Path]:
        """List the files in `folder`, sorted by name."""
        return [Path(entry.path) for entry in self._entries(folder) if _is_file(entry)]

    def children(self, folder: Path) -> list[Path]:
        """List the folders in `folder` without those that hold nothing but runs of tcs-edge."""
        if str(folder) not in self._without_runs:
            found = self.folders(folder)
            runs = [child for child in found if self._holds_runs(child)]
            inner = [name for child in runs for name in self._runs_in.get(str(child), [])]
            self.runs = [*(name for name in self.runs if name not in inner), *(child.name for child in runs)]
            self._without_runs[str(folder)] = [child for child in found if child not in runs]
        return self._without_runs[str(folder)]

    def images(self, folder: Path, group: str = "") -> list[Path]:
        """List the readable image files below `folder`, and count the unreadable ones under `group`."""
        return [self.root / name for name in self.image_names(folder, group)]

    def image_names(self, folder: Path, group: str = "") -> list[str]:
        """List the images as `images` does, by their paths relative to `root`, with forward slashes."""
        names = sorted(self._walk(folder, (), self._prefix(folder)), key=path_order)
        images = [name for name in names if has_image_suffix(name)]
        others = [self.root / name for name in names if not has_image_suffix(name)]
        kinds = [kind for path in others[:SNIFFED_FILES] if (kind := unread_kind(path))]
        self.unread.update((group, kind) for kind in kinds)
        self.read[group] += len(images)
        if left := len(others) - len(kinds):
            self.others += left
            suffixes = Counter(path.suffix.lower() or "no suffix" for path in others)
            named = ", ".join(suffix for suffix, _ in suffixes.most_common(3))
            logger.debug(f"{folder}: ignored {left} files that are not images ({named})")
        return images

    def unread_line(self, groups: Sequence[str] | None = None) -> str | None:
        """Describe the image files of `groups` that cannot be read, with the fix; None if there are none."""
        unread = {key: count for key, count in self.unread.items() if groups is None or key[0] in groups}
        if not unread:
            return None
        kinds, by_group = Counter[str](), Counter[str]()
        for (group, kind), count in unread.items():
            kinds[kind] += count
            by_group[group] += count
        named = name_some([f"{count} {kind}" for kind, count in kinds.most_common()])
        shares = [f"{group}: {count} of {count + self.read[group]}" for group, count in by_group.most_common() if group]
        where = f" ({name_some(shares)})" if shares else ""
        return f"image files not read: {named}{where}. {how_to_read(kinds)}"

    def report(self) -> None:
        """Log one line each for entries of other programs, excluded entries and unreadable formats."""
        if total := sum(self._clutter.values()):
            named = name_some([f"{name} {count}" for name, count in self._clutter.most_common()])
            logger.info(f"{self.root}: ignored hidden entries and entries of other programs: {total} ({named})")
        if self.excluded:
            logger.info(f"{self.root}: excluded entries: {len(self.excluded)} ({name_some(sorted({*self.excluded}))})")
        elif self.exclude:
            logger.info(f"{self.root}: no entry matches --exclude {' '.join(self.exclude)}")
        if self.runs:
            logger.info(f"{self.root}: ignored run folders of tcs-edge: {len(self.runs)} ({name_some(self.runs)})")
        if line := self.unread_line():
            logger.warning(f"{self.root}: {line}")

    def _holds_runs(self, folder: Path) -> bool:
        entries = self._entries(folder)
        if entries and folder.name == "runs":  # without markers too, as an interrupted start leaves it
            dated = all(_is_folder(entry) and _RUN_NAME.fullmatch(entry.name) for entry in entries)
            return dated and not any(map(has_image_suffix, self._walk(folder, ())))
        return not entries and str(folder) in self._runs_in

    def _prefix(self, folder: Path) -> str:
        """Return the start of names in `folder`: its path relative to `root`, with a slash, or nothing for `root`."""
        return "" if folder == self.root else f"{folder.relative_to(self.root).as_posix()}/"

    def _walk(self, folder: Path, above: tuple[tuple[int, int], ...], prefix: str = "") -> Iterator[str]:
        """Yield `prefix` and the path inside `folder` of all files below it; do not follow links back to `above`."""
        here = self._identity(folder)
        if here in above:
            return
        entries = self._entries(folder)
        yield from (prefix + entry.name for entry in entries if _is_file(entry))
        for child in [entry for entry in entries if _is_folder(entry)]:
            yield from self._walk(Path(child.path), (*above, here), f"{prefix}{child.name}/")

    def _identity(self, folder: Path) -> tuple[int, int]:
        status = folder.stat()
        return status.st_dev, status.st_ino

    def _scan(self, folder: Path) -> list[os.DirEntry[str]]:
        """List all entries of a folder, sorted by name."""
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise_shortage(error)
            raise DataError(f"cannot list {folder}: {error.strerror}. Check its permissions.") from None

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        found = self._scan(folder)
        clean = [entry for entry in found if not is_clutter(entry.name)]
        allowed = [entry for entry in clean if not self._is_excluded(entry)]
        runs = {entry.name for entry in allowed if _is_run(entry)}
        if str(folder) not in self._counted:  # folders are listed several times
            self._counted.add(str(folder))
            self._clutter.update(_clutter_kind(entry.name) for entry in found if is_clutter(entry.name))
            self.excluded += sorted({entry.name for entry in clean} - {entry.name for entry in allowed})
            if runs:
                self.runs += sorted(runs)
                self._runs_in[str(folder)] = sorted(runs)
        return [entry for entry in allowed if entry.name not in runs]

    def _is_excluded(self, entry: os.DirEntry[str]) -> bool:
        if not self.exclude:
            return False
        if self._patterns.fullmatch(entry.name.casefold()):
            return True
        relative = Path(entry.path).relative_to(self.root).as_posix() if self._with_paths else entry.name
        return self._patterns.fullmatch(relative.casefold()) is not None

    @cached_property
    def _patterns(self) -> re.Pattern[str]:
        return re.compile("|".join(translate(pattern) for pattern in self._globs))

    @cached_property
    def _with_paths(self) -> bool:
        return any("/" in pattern for pattern in self._globs)

    @property
    def _globs(self) -> list[str]:
        return [pattern.casefold().removeprefix("./").rstrip("/") for pattern in self.exclude]


def _clutter_kind(name: str) -> str:
    """Return the label of a clutter entry in the log line: its name, or what many such names share."""
    if name.startswith("._"):
        return "._*"
    suffix = next((suffix for suffix in _CLUTTER_SUFFIXES if name.lower().endswith(suffix)), None)
    return f"*{suffix}" if suffix else repr(name)[1:-1]


def _is_run(entry: os.DirEntry[str]) -> bool:
    return _is_folder(entry) and Path(entry.path, RUN_MARKER).is_file()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # For a link to itself, Path.is_dir() returns False; DirEntry.is_dir() raises.
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return True for regular files and dangling links, which are reported as unreadable later; False for pipes."""
    if not entry.is_symlink():
        return entry.is_file()
    return Path(entry.path).is_file() or not Path(entry.path).exists()

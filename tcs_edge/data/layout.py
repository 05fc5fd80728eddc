"""Layout of an image folder: its splits, classes and files, found without opening any file."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tcs_edge.data.decode import SUFFIXES, has_image_suffix
from tcs_edge.errors import DataError

logger = logging.getLogger(__name__)

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_CLUTTER = {"__macosx", "thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Found:
    """An image file in a class folder; `name` is its path relative to the data folder."""

    path: Path
    name: str
    class_name: str


def find_images(folder: Path) -> dict[str, list[Found]]:
    """List the images of each split, or all images under "all" when the folder has no splits.

    Two layouts are supported. With train/ and at least one of val/ and test/, each of them holds
    one folder per class. Otherwise `folder` itself does. Folders nested inside a class belong to it.

    Raises:
        DataError: no such folder, no images, no class folders, an empty class, only one class,
            or a held-out class that train lacks.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}. Pass --data DIR with one folder of images per class.")
    splits = _split_folders(folder)
    if not splits:
        everything = _classes_of(folder, folder)
        _require_classes(everything, folder)
        return {"all": _flat(everything)}
    classes = {part: _classes_of(path, folder) for part, path in splits.items()}
    _require_classes(classes["train"], splits["train"])
    for part in classes.keys() - {"train"}:
        _compare_with_train(part, splits[part], classes)
    _report_strays(folder, ignored=[p for p in _folders(folder) if p.name.lower() not in SPLIT_NAMES])
    return {part: _flat(found) for part, found in classes.items()}


def find_files(folder: Path) -> list[Path]:
    """List every image file below `folder`, at any depth.

    Raises:
        DataError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}. Pass --unlabeled DIR with images, in any subfolders.")
    images = [path for path in sorted(_walk(folder, ())) if has_image_suffix(path.name)]
    if not images:
        raise DataError(f"no images in {folder}: expected {' '.join(SUFFIXES)} files.")
    return images


def _split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of train, val and test; empty when `folder` holds classes directly."""
    found: dict[str, Path] = {}
    children = _folders(folder)
    for child in children:
        part = SPLIT_NAMES.get(child.name.lower())
        if part in found:
            raise DataError(f"{folder} has both {found[part].name}/ and {child.name}/. Keep one of them.")
        if part:
            found[part] = child
    if "train" in found and len(found) > 1:
        return found
    if found and len(found) == len(children):
        raise DataError(_half_a_split(folder, found))
    return {}  # "train" may be a class name, beside "bus" and "car"


def _half_a_split(folder: Path, found: dict[str, Path]) -> str:
    names = " and ".join(f"{path.name}/" for path in found.values())
    if "train" in found:
        return f"{folder} has only {names}. Pass --data {found['train']} to have it split, or add a test/."
    return f"{folder} has {names} but no train/. Add it, or pass a folder with one folder per class."


def _classes_of(folder: Path, root: Path) -> dict[str, list[Found]]:
    """List the images per class of one split; a class without images has an empty list."""
    classes = {}
    for child in _folders(folder):
        files = sorted(_walk(child, ()))
        images = [path for path in files if has_image_suffix(path.name)]
        _log_other_files(child, files, len(images))
        classes[child.name] = [Found(p, p.relative_to(root).as_posix(), child.name) for p in images]
    if any(classes.values()):
        _report_strays(folder)
        return classes
    if any(has_image_suffix(path.name) for path in _files(folder)):
        raise DataError(f"{folder} has images but no class folders. Put each class into a folder of its own.")
    raise DataError(f"no images in {folder}: expected one folder per class with {' '.join(SUFFIXES)} files.")


def _log_other_files(folder: Path, files: list[Path], images: int) -> None:
    if others := len(files) - images:
        suffixes = Counter(path.suffix.lower() or "no suffix" for path in files if not has_image_suffix(path.name))
        kinds = ", ".join(suffix for suffix, _ in suffixes.most_common(3))
        log = logger.debug if images else logger.warning
        log(f"{folder}: ignored {others} files without an image suffix ({kinds})")


def _report_strays(folder: Path, ignored: list[Path] | None = None) -> None:
    strays = [path.name for path in _files(folder) if has_image_suffix(path.name)]
    strays += [f"{path.name}/" for path in ignored or []]
    if strays:
        logger.warning(f"{folder}: ignored {len(strays)} entries outside the class folders: {name_some(strays)}")


def _require_classes(classes: dict[str, list[Found]], folder: Path) -> None:
    for name, images in classes.items():
        if not images:
            raise DataError(f"class {name!r} has no images in {folder / name}. Fill the folder or remove it.")
    if len(classes) == 1:
        raise DataError(f"only one class, {next(iter(classes))!r}, in {folder}. At least two are needed.")


def _compare_with_train(part: str, folder: Path, classes: dict[str, dict[str, list[Found]]]) -> None:
    present = {name for name, images in classes[part].items() if images}
    if unknown := sorted(present - classes["train"].keys()):
        raise DataError(f"{folder} has classes that train lacks: {name_some(unknown)}. Add them to train.")
    if absent := sorted(classes["train"].keys() - present):
        logger.warning(f"{folder} has no images of {name_some(absent)}. The {part} results do not cover them.")


def name_some(names: list[str], limit: int = 5) -> str:
    """Join the first `limit` names and the number of the remaining ones."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _flat(classes: dict[str, list[Found]]) -> list[Found]:
    return [found for name in sorted(classes) for found in classes[name]]


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield all files below `folder`, without following links back to a folder in `above`."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    yield from _files(folder)
    for child in _folders(folder):
        yield from _walk(child, (*above, here))


def _folders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if _is_folder(entry)]


def _files(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if _is_file(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # For a link to itself, Path.is_dir() returns False; DirEntry.is_dir() raises.
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return True for regular files and dangling links, which are reported as unreadable later; False for pipes."""
    if not entry.is_symlink():
        return entry.is_file()
    return Path(entry.path).is_file() or not Path(entry.path).exists()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            kept = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in _CLUTTER]
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror}. Check its permissions.") from None
    return sorted(kept, key=lambda entry: entry.name)

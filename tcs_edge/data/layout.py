"""Layout of an image folder: its splits, classes and files, found from names."""

from __future__ import annotations

import logging
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tcs_edge.data.class_names import class_name_of, look, lookalikes, require_visible_differences
from tcs_edge.data.compact import Texts
from tcs_edge.data.formats import SUFFIXES, has_image_suffix
from tcs_edge.data.hidden_splits import refuse_hidden_splits
from tcs_edge.data.index import ALL, Listed, folder_listing
from tcs_edge.data.listing import Listing, name_some
from tcs_edge.data.split_names import PLAIN, SHORT, is_full_split, loose_role, split_role
from tcs_edge.errors import DataError

logger = logging.getLogger(__name__)


@dataclass
class ClassFolder:
    """Images of a class in one split.

    Attributes:
        names: names of the images relative to the data folder, from one or several folders.
        direct: True if the class folder itself holds images.
        subfolders: names of the subfolders that hold images.
    """

    names: list[Texts] = field(default_factory=list)
    direct: bool = False
    subfolders: set[str] = field(default_factory=set)

    @property
    def empty(self) -> bool:
        """True if there are no images."""
        return not any(map(len, self.names))


Classes = dict[str, ClassFolder]


def find_images(folder: Path, exclude: Sequence[str] = ()) -> Listed:
    """List the images of each split, or all images under `ALL` when the folder has no splits.

    Two layouts are supported. With train/ and at least one of val/ and test/, each of them holds
    one folder per class. Otherwise `folder` itself does. Folders nested inside a class belong to it.

    Args:
        exclude: glob patterns on names of folders and files to leave out.

    Raises:
        DataError: no such folder, no images, no class folders, an empty class, only one class,
            a held-out class that train lacks, splits whose meaning is open, or an unusable class name.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}. Pass --data DIR with one folder of images per class.")
    return find_in(Listing(folder, tuple(exclude)))


def find_in(listing: Listing) -> Listed:
    """List the images of a folder, or of an archive, as `find_images` does."""
    splits = _split_folders(listing)
    found = _with_splits(listing, splits) if splits else {ALL: _only_classes(listing)}
    listing.report()
    return folder_listing(
        listing.root, {part: {name: one.names for name, one in classes.items()} for part, classes in found.items()}
    )


def find_files(folder: Path, exclude: Sequence[str] = ()) -> Texts:
    """List every image file below `folder`, at any depth, by its name relative to the folder.

    Args:
        exclude: as for `find_images`.

    Raises:
        DataError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}. Pass --unlabeled DIR with images, in any subfolders.")
    listing = Listing(folder, tuple(exclude))
    images = Texts.of(listing.image_names(folder))
    if not images:
        raise DataError(_no_images(folder, listing))
    listing.report()
    return images


def _no_images(folder: Path, listing: Listing, expected: str = "") -> str:
    fix = listing.unread_line() or f"expected {expected}{' '.join(SUFFIXES)} files."
    excluded = f" --exclude leaves out {len(listing.excluded)} entries." if listing.excluded else ""
    return f"no images in {folder}: {fix}{excluded}"


def _with_splits(listing: Listing, splits: dict[str, Path]) -> dict[str, Classes]:
    classes = {part: _classes_of(path, listing) for part, path in splits.items()}
    train = classes["train"]
    _require_classes(train, splits["train"], listing)
    _refuse_hidden_splits(train, splits["train"])
    for part in classes.keys() - {"train"}:
        classes[part] = _compare_with_train(part, splits[part], classes[part], train)
    used = {path.relative_to(listing.root).parts[0] for path in splits.values()}
    _report_ignored(listing, [path for path in listing.children(listing.root) if path.name not in used], train)
    _report_strays(listing.root, listing)
    return classes


def _only_classes(listing: Listing) -> Classes:
    classes = _classes_of(listing.root, listing)
    _refuse_hidden_splits(classes, listing.root)
    _require_classes(classes, listing.root, listing)
    return classes


def _split_folders(listing: Listing) -> dict[str, Path]:
    """Return the folders of train, val and test; empty when the folder holds classes directly."""
    folder = listing.root
    children = listing.children(folder)
    named = {child: role for child in children if (role := _role(child, listing))}
    by_role: dict[str, list[Path]] = defaultdict(list)
    for child, role in named.items():
        by_role[role].append(child)
    for paths in by_role.values():
        if len(paths) > 1:
            first, second = paths[:2]
            raise DataError(
                f"{folder} has both {first.name}/ and {second.name}/. Keep one of them, "
                f"or pass --exclude {_quoted(second.name)}."
            )
    found = {role: paths[0] for role, paths in by_role.items()}
    if is_full_split(found):
        return _descended(_without_eval(folder, found), listing)
    if found and len(named) == len(children):
        raise DataError(_half_a_split(folder, found))
    _refuse_unclear_names(folder, children)
    return {}  # "train" may be a class name, beside "bus" and "car"


def _refuse_unclear_names(folder: Path, children: Sequence[Path]) -> None:
    """Refuse folders such as pets_train/ and pets_test/, or trainA/ and testA/, whose other words are unknown."""
    roles = {child.name: loose_role(child.name) for child in children}
    if all(roles.values()) and is_full_split(roles.values()):
        mapping = ", ".join(f"{role} = {name}/" for name, role in roles.items())
        raise DataError(
            f"{folder} has folders named like splits. Assumed splits would be: {mapping}. "
            "Rename one to train/ and one to test/, or rename them if they are classes."
        )


def _role(child: Path, listing: Listing) -> str | None:
    if child.name.casefold() in SHORT and (not listing.folders(child) or _has_images(child, listing)):
        return None
    return split_role(child.name, short=True)


def _without_eval(folder: Path, found: dict[str, Path]) -> dict[str, Path]:
    """Return train, val and test; a folder such as eval/ counts only as the one held-out split.

    Raises:
        DataError: eval/ beside val/ or test/.
    """
    if "eval" not in found:
        _log_mapping(folder, found)
        return found
    odd = found.pop("eval")
    if len(found) == 1:
        _log_mapping(folder, found | {"test": odd})
        return found | {"test": odd}
    free = next((part for part in ("val", "test") if part not in found), None)
    mapping = _mapping(found | ({free: odd} if free else {}))
    rename = f"Rename {odd.name}/ to {free}/" if free else f"Remove {odd.name}/"
    raise DataError(
        f"{folder}: {odd.name}/ can mean validation or test. Assumed splits would be: {mapping}. "
        f"{rename}, or pass --exclude {_quoted(odd.name)}."
    )


def _log_mapping(folder: Path, found: dict[str, Path]) -> None:
    if any(path.name.lower() not in PLAIN for path in found.values()):
        logger.info(f"{folder}: splits: {_mapping(found)}")


def _mapping(found: dict[str, Path]) -> str:
    return ", ".join(f"{part} = {found[part].name}/" for part in ("train", "val", "test", "eval") if part in found)


def _descended(splits: dict[str, Path], listing: Listing) -> dict[str, Path]:
    """Follow a split folder that holds only a folder for the same split, such as seg_train/seg_train."""

    def inside(folder: Path, part: str) -> Path:
        children = listing.folders(folder)
        if len(children) != 1 or _has_images(folder, listing):
            return folder
        same = children[0].name == folder.name or split_role(children[0].name) == part
        return inside(children[0], part) if same else folder

    return {part: inside(path, part) for part, path in splits.items()}


def _half_a_split(folder: Path, found: dict[str, Path]) -> str:
    names = " and ".join(f"{path.name}/" for path in found.values())
    if "train" in found:
        return f"{folder} has only {names}. Pass --data {found['train']} to have it split, or add a test/."
    return (
        f"{folder} has {names} but no train/. Assumed splits would be: {_mapping(found)}. "
        "Add a train/, rename one of them to it, or pass a folder with one folder per class."
    )


def _classes_of(folder: Path, listing: Listing) -> Classes:
    """List the images per class of one split; a class without images has an empty list."""
    classes: Classes = defaultdict(ClassFolder)
    forms: dict[str, list[str]] = defaultdict(list)
    for child in listing.children(folder):
        name = class_name_of(child)
        forms[name].append(child.name)
        found = classes[name]
        names = listing.image_names(child, name)
        found.names.append(Texts.of(names))
        depth = len(child.relative_to(listing.root).parts)
        for inner in (path.split("/", depth + 1)[depth:] for path in names):
            found.direct |= len(inner) == 1
            found.subfolders.update(inner[:-1])
    for name in (name for name, spelled in forms.items() if len(spelled) > 1):
        logger.info(f"class {name!r}: {len(forms[name])} folders in {folder}, in different Unicode forms")
    if not all(found.empty for found in classes.values()):
        _report_strays(folder, listing)
        return dict(classes)
    if _has_images(folder, listing):
        leave_out = "" if folder == listing.root else f" Or pass --exclude {_quoted(folder.name)}."
        raise DataError(
            f"{folder} has images but no class folders. Put each class into a folder of its own.{leave_out}"
        )
    raise DataError(_no_images(folder, listing, "one folder per class with "))


def _has_images(folder: Path, listing: Listing) -> bool:
    return any(has_image_suffix(path.name) for path in listing.files(folder))


def _report_strays(folder: Path, listing: Listing) -> None:
    if strays := [path.name for path in listing.files(folder) if has_image_suffix(path.name)]:
        logger.warning(f"{folder}: ignored {len(strays)} images outside the class folders: {name_some(strays)}")


def _report_ignored(listing: Listing, ignored: Iterable[Path], train: Classes) -> None:
    """Warn about folders beside the splits; point out those that hold the same class folders."""
    if not (paths := list(ignored)):
        return
    classes = {look(name) for name in train}
    alike = [f"{path.name}/" for path in paths if {look(child.name) for child in listing.folders(path)} & classes]
    hint = f" Folders of the same classes: {name_some(alike)}. Rename to val/ or test/ to use one." if alike else ""
    listed = name_some([f"{path.name}/" for path in paths])
    logger.warning(f"{listing.root}: ignored {len(paths)} folders beside the splits: {listed}.{hint}")


def _require_classes(classes: Classes, folder: Path, listing: Listing) -> None:
    if empty := [name for name, found in classes.items() if found.empty]:
        raise DataError(_empty_classes(empty, folder, listing))
    if len(classes) == 1:
        ((name, found),) = classes.items()
        nested = len(found.subfolders) > 1 and not found.direct
        hint = f" If its subfolders are the classes or splits, pass --data {folder / name}." if nested else ""
        raise DataError(f"only one class, {name!r}, in {folder}. At least two are needed.{hint}")
    require_visible_differences(classes, str(folder))
    for group in lookalikes(classes):
        named = ", ".join(map(repr, group))
        logger.warning(f"{folder}: class names that look alike: {named}. Merge the folders if they are one class.")


def _empty_classes(empty: list[str], folder: Path, listing: Listing) -> str:
    flags = " ".join(f"--exclude {_quoted(name)}" for name in empty)
    if len(empty) == 1:
        problem = f"class {empty[0]!r} has no images in {folder / empty[0]}"
        fix = f"Fill the folder or remove it, or pass {flags} to leave it out."
    else:
        problem = f"{len(empty)} class folders have no images in {folder}: {', '.join(map(repr, empty))}"
        fix = f"Fill or remove them, or pass {flags} to leave them out."
    unread = listing.unread_line(empty)
    return f"{problem}: {unread} {fix}" if unread else f"{problem}. {fix}"


def _quoted(name: str) -> str:
    # Brackets are part of a glob pattern.
    pattern = re.sub(r"([\[*?])", r"[\1]", name)
    return shlex.quote(pattern)


def _refuse_hidden_splits(classes: Classes, folder: Path) -> None:
    nested = {name: set() if found.direct else found.subfolders for name, found in classes.items() if not found.empty}
    within = {name: found.subfolders for name, found in classes.items()}
    refuse_hidden_splits(folder, nested, within)


def _compare_with_train(part: str, folder: Path, classes: Classes, train: Classes) -> Classes:
    """Return the held-out classes under train's spelling of their names."""
    by_look: dict[str, list[str]] = defaultdict(list)
    for name in train:
        by_look[look(name)].append(name)
    merged: Classes = defaultdict(ClassFolder)
    unknown = []
    for name, found in classes.items():
        if found.empty:
            continue
        alike = [name] if name in train else by_look[look(name)]
        if len(alike) != 1:
            unknown.append(name)
            continue
        if alike[0] != name:
            logger.warning(f"{folder}: class {name!r} is taken as {alike[0]!r} of train. Rename the folder.")
        merged[alike[0]].names += found.names
    if unknown:
        raise DataError(f"{folder} has classes that train lacks: {name_some(sorted(unknown))}. Add them to train.")
    if absent := sorted(train.keys() - merged.keys()):
        logger.warning(f"{folder} has no images of {name_some(absent)}. The {part} results do not cover them.")
    return dict(merged)

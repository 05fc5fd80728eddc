"""Detection of splits that would be taken for classes, from the names of class folders and their subfolders."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Mapping, Set
from pathlib import Path

from tcs_edge.data.listing import name_some
from tcs_edge.data.split_names import is_fold, is_full_split, is_numbered, split_role
from tcs_edge.errors import DataError

logger = logging.getLogger(__name__)

_UNLABELED = re.compile(r"unlabell?ed|unsupervised|no[ _-]?labels?")
Subfolders = Mapping[str, Set[str]]


def refuse_hidden_splits(folder: Path, nested: Subfolders, within: Subfolders) -> None:
    """Refuse class folders that are splits, folds, or hold splits; warn if all hold the same subfolders.

    Args:
        nested: subfolders with images of every class; none for a class with images of its own.
        within: subfolders with images of every class.

    Raises:
        DataError: the message has the assumed mapping and the way to rename.
    """
    _refuse_folds(folder, nested)
    _refuse_splits_in_classes(folder, within)
    _refuse_splits_as_classes(folder, nested)
    for name in nested:
        if _UNLABELED.search(name.casefold()):
            logger.warning(
                f"{folder}: {name!r} is read as a class. If its images have no labels, pass "
                f"--exclude {shlex.quote(name)} --unlabeled {folder / name}."
            )
    if shared := _shared(nested):
        logger.warning(
            f"{folder}: all {len(nested)} class folders hold the same subfolders ({name_some(sorted(shared))}), so the "
            f"classes are {name_some(sorted(nested))}. If these are splits, rename them to train/, val/ and test/."
        )


def _shared(nested: Subfolders) -> Set[str]:
    """Return the names of the subfolders that all classes have, if all have the same ones and at least two."""
    first = next(iter(nested.values()), set())
    same = len(nested) > 1 and len(first) > 1 and all(names == first for names in nested.values())
    return first if same else set()


def _refuse_folds(folder: Path, nested: Subfolders) -> None:
    names = sorted(nested)
    folds = len(names) > 1 and all(map(is_fold, names))
    if folds or (len(names) > 1 and all(map(is_numbered, names)) and _shared(nested)):
        last = names[-1]
        raise DataError(
            f"{folder} holds numbered parts and no classes: {name_some(names)}. Assumed splits would be: "
            f"test = {last}/, train = the others. Rename {last}/ to test/ and merge the others into train/."
        )


def _refuse_splits_in_classes(folder: Path, within: Subfolders) -> None:
    for name, subfolders in within.items():
        if len(within) == 1:
            return  # a folder around the splits or the classes; reported as the only class
        roles = {split_role(inner, short=True): inner for inner in sorted(subfolders)}
        if is_full_split(roles):
            mapping = ", ".join(f"{role} = {name}/{inner}/" for role, inner in roles.items() if role)
            raise DataError(
                f"{folder / name} holds splits inside the class. Assumed splits would be: {mapping}. "
                f"Move them to train/{name}/ and test/{name}/, for every class."
            )


def _refuse_splits_as_classes(folder: Path, nested: Subfolders) -> None:
    for name, subfolders in nested.items():
        others = nested.keys() - {name}
        if len(subfolders) > 1 and subfolders <= others:
            rename = "" if split_role(name) else f" and rename {name}/ to test/"
            raise DataError(
                f"{folder / name} holds folders named like the other classes: {name_some(sorted(subfolders))}. "
                f"Move these classes into train/{rename}, or pass --exclude {shlex.quote(name)}."
            )
        role = split_role(name)
        if role and len(subfolders) > 1:
            peers = sorted(other for other in others if nested[other] == subfolders)
            raise DataError(
                f"{folder} holds {name}/ with folders inside, which looks like the split {role}, beside "
                f"{name_some(sorted(others))}. {_fix(folder, name, role, peers)}, or rename {name}/ if it is a class."
            )


def _fix(folder: Path, name: str, role: str, peers: list[str]) -> str:
    """Return the fix for a split without its counterpart; `peers` hold the same subfolders."""
    missing = "test" if role == "train" else "train"
    if len(peers) == 1:
        mapping = ", ".join(f"{part} = {path}/" for part, path in ((role, name), (missing, peers[0])))
        return f"Assumed splits would be: {mapping}. Rename {peers[0]}/ to {missing}/"
    if role == "train":
        return f"Pass --data {folder / name} if its folders are the classes"
    return "Add a train/ with the training images"

"""Names of split folders: train, val and test under their common names.

A name is taken apart into words. One word must name a split, and the others may only be fillers such as "set"
or "images". So `Training`, `train_set`, `seg_train` and `train2017` name train, and `train station` does not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Literal

Role = Literal["train", "val", "test", "eval"]  # "eval" can mean val or test

PLAIN = ("train", "val", "valid", "validation", "test")
_WORDS: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trains", "trainval", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "devel", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tests", "tst", "holdout", "heldout"), "test"),
    **dict.fromkeys(("eval", "evaluation", "evaluate", "evaluating"), "eval"),
}  # fmt: skip
# Too short to trust: they count only for folders that hold folders and no images.
SHORT: dict[str, Role] = {"tr": "train", "vl": "val", "va": "val", "te": "test", "ts": "test"}
_FILLERS = (
    "set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "pic", "pics", "picture",
    "pictures", "photo", "photos", "split", "splits", "part", "subset", "dir", "folder", "file", "files", "sample",
    "samples", "seg", "cls", "classification", "the", "new", "final", "full", "all",
)  # fmt: skip
_NUMBERED = re.compile(r"(k?folds?|cv|splits?|parts?|partitions?|subsets?|sets?|shards?|batch|rounds?|chunks?)\d+")


@cache
def split_role(name: str, short: bool = False) -> Role | None:
    """Return the split that a folder name means, or None.

    Args:
        short: also accept the names in `SHORT`.
    """
    words = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFKC", name).casefold())
    known = _WORDS | SHORT if short else _WORDS
    joined = "".join(words)
    if joined in known:
        return known[joined]
    roles = set()
    for word in words:
        if word in _FILLERS:
            continue
        stems = [word, *(word.removesuffix(filler) for filler in _FILLERS if word.endswith(filler))]
        role = next((known[stem] for stem in stems if stem in known), None)
        if role is None:
            return None
        roles.add(role)
    return roles.pop() if len(roles) == 1 else None


def loose_role(name: str) -> Role | None:
    """Return the split that one word of a folder name means, whatever the other words: pets_train, trainA."""
    words = re.findall(r"[^\W\d_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", unicodedata.normalize("NFKC", name)))
    roles = {role for word in words if (role := split_role(word))}
    return roles.pop() if len(roles) == 1 else None


def is_numbered(name: str) -> bool:
    """Return True for names such as fold1, split_2 and part-3."""
    return _NUMBERED.fullmatch(re.sub(r"[\W_]+", "", name.casefold())) is not None


def is_fold(name: str) -> bool:
    """Return True for a numbered fold of cross-validation."""
    return is_numbered(name) and "fold" in name.casefold()


def is_full_split(roles: Iterable[str | None]) -> bool:
    """Return True if train and at least one held-out split are among the roles."""
    found = {role for role in roles if role}
    return "train" in found and len(found) > 1

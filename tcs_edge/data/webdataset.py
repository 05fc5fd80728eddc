"""WebDataset shards: tar files whose members share a key, as in 000.jpg, 000.cls and 000.json.

The label is the text of `.cls`, else a value of the object in `.json`. Format:
https://github.com/webdataset/webdataset. The shards are read in place, because images need to be read in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tcs_edge.data.archives import Archive, twice
from tcs_edge.data.columns import find_columns
from tcs_edge.data.formats import has_image_suffix
from tcs_edge.data.index import Listed
from tcs_edge.data.listing import is_clutter
from tcs_edge.data.members import Member
from tcs_edge.data.rows import Row, is_excluded, listed_rows
from tcs_edge.data.split_names import is_full_split, loose_role, split_role
from tcs_edge.errors import DataError
from tcs_edge.utils.reading import parse_json

LABEL, FACTS = "cls", "json"
_MOST_BYTES = 1_000_000  # of a label or of an object of facts
Sample = dict[str, tuple[str, Member]]  # suffix -> name and member


def is_webdataset(shards: Sequence[Archive]) -> bool:
    """Return True if an image of a shard has a label file beside it."""
    return any(map(_has_label, shards))


def _has_label(shard: Archive) -> bool:
    images = {_key(name)[0] for name in shard.members if has_image_suffix(name)}
    return any(key in images for key, suffix in map(_key, shard.members) if suffix in (LABEL, FACTS))


def find_samples(
    shards: Sequence[Archive], origin: Path, exclude: Sequence[str] = (), columns: Mapping[str, str] | None = None
) -> Listed:
    """List the images of WebDataset shards.

    The split is the value `split` of `.json`, else in the name of the shard, else the first folder of the key. An
    image whose key has no folder is named by split and class, as a file in a folder would be. If another shard has
    the same key, the name of the shard comes before it.

    Raises:
        DataError: an image without a label, several images of one key, one path in two shards, or as
            `rows.listed_rows`.
    """
    rows, images = [], Archive(origin)
    samples = [sample for shard in shards for sample in _rows(shard, columns or {})]
    for row, member in _with_splits(samples):
        path = row.path
        if path in images.members:
            if "/" in member.name:
                raise twice(member, path, images.members[path])
            folder, _, file = path.rpartition("/")
            path = f"{folder}/{member.archive.stem}-{file}"
        if not is_excluded(path, exclude):
            rows.append(Row(row.where, path, row.label, row.split, row.group))
            images.members[path] = member
    return listed_rows(origin, rows, images.sources)


def _key(name: str) -> tuple[str, str]:
    """Return the key of a member, up to the first dot of its file name, and the rest."""
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return (f"{folder}/{stem}" if folder else stem), suffix.lower()


def _rows(shard: Archive, columns: Mapping[str, str]) -> Iterator[tuple[Row, Member]]:
    """Yield a row with the name of the member as path, and the member, of every image."""
    samples: dict[str, Sample] = {}
    for name, member in shard.members.items():
        if not any(map(is_clutter, name.split("/"))):
            key, suffix = _key(name)
            samples.setdefault(key, {})[suffix] = (name, member)
    for parts in samples.values():
        images = [suffix for suffix in parts if has_image_suffix(f"x.{suffix}")]
        if not images:
            continue
        name, member = parts[images[0]]
        where = f"({shard.shown.name})"
        if len(images) > 1:
            listed = ", ".join(images)
            raise DataError(f"{shard.shown}: {name} has several images of one key: {listed}. Keep one of them.")
        facts = _facts(shard, parts, columns)
        yield Row(where, name, facts["label"], facts["split"], facts["group"]), member


def _facts(shard: Archive, parts: Sample, columns: Mapping[str, str]) -> dict[str, str]:
    found = dict.fromkeys(("label", "split", "group"), "")
    if FACTS in parts:
        name, member = parts[FACTS]
        document = parse_json(_content(member), f"{member.archive}: {name}")
        if isinstance(document, dict):
            roles = ["split", "group", *([] if LABEL in parts and "label" not in columns else ["label"])]
            named = find_columns(shard.shown, list(document), columns, roles)
            found |= {
                role: _text(document[column], f"{member.archive}: {name}", column) for role, column in named.items()
            }
    if LABEL in parts and not found["label"]:
        found["label"] = _content(parts[LABEL][1]).decode("utf-8", "surrogateescape").strip()
    return found


def _text(value: object, where: str, column: str) -> str:
    """Return a value of `.json` as text; null is empty."""
    if isinstance(value, dict | list):
        raise DataError(f"{where}: the value {column!r} is not a text. Write one text or number.")
    return "" if value is None else str(value).strip()


def _content(member: Member) -> bytes:
    if member.size > _MOST_BYTES:
        raise DataError(f"{member} is larger than {_MOST_BYTES / 1e6:.0f} MB. Store the label alone.")
    return member.read()


def _with_splits(rows: Sequence[tuple[Row, Member]]) -> Iterator[tuple[Row, Member]]:
    """Yield the rows with their splits and paths."""
    splits = [row.split for row, _ in rows]
    if not any(splits):
        shards: list[str] = [loose_role(member.archive.stem.replace("-", " ")) or "" for _, member in rows]
        tops: list[str] = [split_role(_top(row.path), short=True) or "" for row, _ in rows]
        splits = next((roles for roles in (shards, tops) if all(roles) and is_full_split(roles)), splits)
    for (row, member), split in zip(rows, splits, strict=True):
        path = row.path if "/" in row.path else "/".join(filter(None, (split, row.label, row.path)))
        yield Row(row.where, path, row.label, split, row.group), member


def _top(path: str) -> str:
    return path.partition("/")[0] if "/" in path else ""

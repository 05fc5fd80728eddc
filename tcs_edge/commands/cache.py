"""Show and clear the cache folder: the checks of images and the features of networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tcs_edge.data.intake import FILE, intake_bytes, remove_intake
from tcs_edge.errors import DataError
from tcs_edge.teachers.cache import FEATURES_FOLDER, SCHEMA_VERSION, SPACE_FILE, shard_files
from tcs_edge.utils.files import remove, write_error
from tcs_edge.utils.lock import require_unowned
from tcs_edge.utils.reading import read_json

KINDS = ("intake", "features", "all")


@dataclass(frozen=True)
class CachePart:
    """Contents of one file or folder of the cache.

    Attributes:
        kind: "intake" for checks of images, "features" for features of a network.
        path: relative to the cache folder.
        what: description, such as the network.
        images: number of images; None for features of an earlier version, which nothing reads.
        bytes: size of all files.
    """

    kind: str
    path: str
    what: str
    images: int | None
    bytes: int


@dataclass(frozen=True)
class CacheContents:
    """All parts of the cache folder."""

    folder: Path
    parts: tuple[CachePart, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields and the total size, as JSON values."""
        parts = [asdict(part) for part in self.parts]
        total = sum(part.bytes for part in self.parts)
        return {"schema_version": 1, "folder": str(self.folder), "bytes": total, "parts": parts}


def cache_contents(folder: Path) -> CacheContents:
    """List what the cache folder holds; a missing folder is empty."""
    size, images = intake_bytes(folder)
    parts = [CachePart("intake", FILE, "checked images", images, size)] if size else []
    features = folder / FEATURES_FOLDER
    stores = sorted(path for path in features.iterdir() if path.is_dir()) if features.is_dir() else []
    return CacheContents(folder, (*parts, *(_features(folder, store) for store in stores)))


def clear_cache(folder: Path, kind: str) -> CacheContents:
    """Remove a kind of contents, or "all", and return what was removed.

    Raises:
        InUse: a process computes features. MissingError: a file cannot be removed.
    """
    contents = cache_contents(folder)
    gone = tuple(part for part in contents.parts if kind in (part.kind, "all"))
    for part in gone:
        for owned in _passes(folder / part.path):
            require_unowned(owned)
    for part in gone:
        try:
            remove_intake(folder) if part.kind == "intake" else remove(folder / part.path)
        except OSError as error:
            raise write_error(error, folder / part.path) from error
    return CacheContents(folder, gone)


def _passes(store: Path) -> Iterable[Path]:
    return (path for path in store.iterdir() if path.is_dir()) if store.is_dir() else ()


def _features(folder: Path, store: Path) -> CachePart:
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    path = store.relative_to(folder).as_posix()
    try:
        stated = read_json(store / SPACE_FILE, SCHEMA_VERSION)
        model, side = stated["ingredients"]["model"], stated["ingredients"]["preprocess"]["img_size"]
        row_bytes = 2 * int(stated["dim"]) + 32  # float16 features, and the sha256 of the image
    except (DataError, KeyError, TypeError, ValueError):
        return CachePart("features", path, "of an earlier version, not used", None, size)
    images = sum(path.stat().st_size // row_bytes for path in shard_files(store))
    readout = stated["ingredients"].get("readout", "pooled")
    role = stated["ingredients"].get("role", "teacher")
    return CachePart("features", path, f"{role} {model}, {side} px, {readout}", images, size)

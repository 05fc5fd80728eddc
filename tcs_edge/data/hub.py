"""Hugging Face data sets, local or from the hub, through the `datasets` library: `hf://NAME`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tcs_edge.data.columns import DEFAULTS, find_columns
from tcs_edge.data.index import Listed
from tcs_edge.data.rows import Row, is_excluded, listed_rows
from tcs_edge.data.sources import Sources
from tcs_edge.data.split_names import split_role
from tcs_edge.errors import DataError, MissingError, reason_of
from tcs_edge.utils.installed import is_installed

logger = logging.getLogger(__name__)

# A Path has lost one of the two slashes of hf://NAME.
_SCHEME = re.compile(r"hf:/+")


@dataclass(frozen=True)
class DatasetRow:
    """An image in a row of a data set; `column` is not decoded by the library."""

    data: Any
    column: str
    row: int
    shown: str

    def __str__(self) -> str:
        return self.shown

    def read(self) -> bytes:
        """Return the bytes of the image.

        Raises:
            OSError: the row names a file that cannot be read. DataError: the row has no image.
        """
        cell = self.data[self.row][self.column]
        content, path = (cell or {}).get("bytes"), (cell or {}).get("path")
        if content is not None:
            return bytes(content)
        if not path:
            raise DataError("no image in this row")
        return Path(path).read_bytes()


class DatasetRows(Sources):
    """Rows of the splits of a data set.

    Args:
        splits: data of each split.
        column: the column of the images.
        places: int32 (N, 2), split and row of each image.
    """

    def __init__(
        self, origin: Path, splits: Sequence[Any], column: str, places: np.ndarray, rows: np.ndarray | None = None
    ) -> None:
        self.origin, self.splits, self.column, self.places = origin, splits, column, places
        self._rows, self._count = rows, len(places)
        self._files = [_first_file(data) for data in splits]

    def place(self, index: int) -> tuple[str, str]:
        """Return the Arrow file of the split, and the number of the row."""
        split, row = self._at(index)
        return self._files[split], f"{row:09d}"

    def file(self, index: int) -> str:
        """Return the Arrow file of the split of image `index`; empty for data in memory, which is always checked."""
        return self._files[self._at(index)[0]]

    def _at(self, index: int) -> tuple[int, int]:
        split, row = self.places[index if self._rows is None else int(self._rows[index])].tolist()
        return split, row

    def _item(self, row: int) -> DatasetRow:
        split, number = self.places[row].tolist()
        return DatasetRow(self.splits[split], self.column, number, f"{self.origin} row {number}")

    def _view(self, rows: np.ndarray) -> DatasetRows:
        return DatasetRows(self.origin, self.splits, self.column, self.places, rows)


def is_dataset(data: Path) -> bool:
    """Return True for a path such as hf://NAME."""
    return _SCHEME.match(data.as_posix()) is not None


def find_dataset(data: Path, exclude: Sequence[str] = (), columns: Mapping[str, str] | None = None) -> Listed:
    """List the images of a data set.

    An image is named by its split, class and file name, as a file in a folder would be; by its row without a file
    name. A data set with one split has no splits.

    Raises:
        DataError: no such data set, no column of images, or as `rows.listed_rows`.
        MissingError: the library is not installed, or the data set cannot be downloaded.
    """
    splits = _load(_name(data), data)
    first = next(iter(splits.values()))
    image = _image_column(data, first, columns or {})
    rest = [name for name in first.column_names if name != image]
    named = find_columns(data, rest, columns or {}, ("label", "split", "group"))
    if "split" in named and len(splits) > 1:
        del named["split"]
    raw = [_undecoded(one, image) for one in splits.values()]
    rows, places = [], {}
    names = [name if len(splits) > 1 else "" for name in splits]
    for number, (split, one) in enumerate(zip(names, raw, strict=True)):
        for position, row in enumerate(_rows(data, split, one, image, named)):
            if row.path in places:
                row = Row(row.where, f"{row.path}#{position}", row.label, row.split, row.group)
            if not is_excluded(row.path, exclude):
                places[row.path] = (number, position)
                rows.append(row)

    def sources_of(paths: Sequence[str]) -> DatasetRows:
        table = np.array([places[path] for path in paths], np.int32).reshape(-1, 2)
        return DatasetRows(data, raw, image, table)

    return listed_rows(data, rows, sources_of)


def _name(data: Path) -> str:
    """Return the name or local path of a data set; hf:///photos is an absolute path."""
    name = _SCHEME.sub("", data.as_posix(), count=1)
    return f"/{name}" if not Path(name).exists() and Path(f"/{name}").exists() else name


def _load(name: str, data: Path) -> dict[str, Any]:
    """Return the splits of a data set by name."""
    if not is_installed("datasets"):
        raise MissingError(f"{data} needs datasets. Install it with: pip install 'tcs-edge[datasets]'")
    import datasets

    try:
        saved = any((Path(name) / marker).is_file() for marker in ("dataset_dict.json", "state.json"))
        loaded: Any = datasets.load_from_disk(name) if saved else datasets.load_dataset(name)
    except (ConnectionError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"no such data set: {data}. {reason_of(error, 100)}. Check the name or the path.") from None
        raise MissingError(f"{data} could not be loaded: {reason_of(error)}. Check the network.") from None
    except Exception as error:  # of any library that a format needs
        raise DataError(f"{data} cannot be loaded: {reason_of(error)}. Check the data set.") from None
    splits = dict(loaded) if hasattr(loaded, "keys") else {"train": loaded}
    known = {split: one for split, one in splits.items() if len(splits) == 1 or split_role(split, short=True)}
    if len(splits) > 1 and "train" not in {split_role(one, short=True) for one in known}:
        raise DataError(f"{data} has the splits {', '.join(splits)}. It needs train and test. Rename or remove splits.")
    if ignored := [split for split in splits if split not in known]:
        logger.warning(f"{data}: ignored splits that are not train, val or test: {', '.join(ignored)}")
    return known


def _image_column(data: Path, split: Any, columns: Mapping[str, str]) -> str:
    import datasets

    found = [name for name, kind in split.features.items() if isinstance(kind, datasets.Image)]
    wanted = columns.get("path")
    if wanted is not None and wanted not in found:
        raise DataError(f"{data} has no column of images {wanted!r}. It has: {', '.join(found) or 'none'}.")
    usual = [name for name in found if name.casefold() in DEFAULTS["path"]]
    if not found:
        raise DataError(f"{data} has no column of images: {', '.join(split.column_names)}. Choose another data set.")
    return wanted or (usual or found)[0]


def _undecoded(split: Any, image: str) -> Any:
    import datasets

    return split.cast_column(image, datasets.Image(decode=False))


def _rows(data: Path, split: str, one: Any, image: str, named: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of a split without its images."""
    text_of = {role: _texts(data, role, column, one.features[column]) for role, column in named.items()}
    facts = one.select_columns([image, *dict.fromkeys(named.values())])
    for position, cells in enumerate(facts):
        found = {role: text_of[role](cells[column]) for role, column in named.items()}
        file = PurePosixPath((cells[image] or {}).get("path") or f"{position:09d}").name
        part = found.get("split") or split
        folders = [part and (split_role(part, short=True) or part), found["label"]]
        path = "/".join(filter(None, (*folders, file)))
        yield Row(f"row {position}{split and f' of {split}'}", path, found["label"], part, found.get("group", ""))


def _texts(data: Path, role: str, column: str, feature: Any) -> Callable[[Any], str]:
    """Return a function from a cell to its text; class labels become their names."""
    import datasets

    names = getattr(feature, "names", None)
    if not isinstance(feature, datasets.Value | datasets.ClassLabel):
        raise DataError(
            f"{data}: the column {column!r} for the {role} holds {type(feature).__name__}, not texts. "
            f"Pass --column {role}=NAME for a column of texts."
        )

    def text(value: Any) -> str:
        if value is None or value != value or (names and isinstance(value, int) and not 0 <= value < len(names)):
            return ""  # -1 is the data set's sign of a missing label
        return str(names[value]) if names else str(value).strip()

    return text


def _first_file(data: Any) -> str:
    files = getattr(data, "cache_files", None) or [{}]
    return str(files[0].get("filename", ""))

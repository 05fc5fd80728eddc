"""CSV and Parquet files that list images: one row each, with named columns for path, label, split and group."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from tcs_edge.data.columns import find_columns
from tcs_edge.data.compact import Texts
from tcs_edge.data.index import Listed
from tcs_edge.data.rows import Row, is_excluded, listed_rows
from tcs_edge.data.sources import Files
from tcs_edge.data.split_names import split_role
from tcs_edge.errors import DataError, MissingError, cut, reason_of, short
from tcs_edge.utils.installed import is_installed
from tcs_edge.utils.reading import read_regular, refuse_lfs_pointer

SUFFIXES = (".csv", ".tsv", ".parquet")
MAX_BYTES = 2**30
_UTF16, _UTF32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def find_table(path: Path, exclude: Sequence[str] = (), columns: Mapping[str, str] | None = None) -> Listed:
    """List the images of a CSV, TSV or Parquet file. Paths are relative to its folder, or absolute and inside it.

    Args:
        exclude: glob patterns on paths and file names to leave out.
        columns: names of columns by role, as from `columns.given_columns`.

    Raises:
        DataError: a missing file or column, another encoding, a path outside the folder, or as `rows.listed_rows`.
        MissingError: no pyarrow for a Parquet file.
    """
    cells = _parquet(path, columns or {}) if path.suffix.lower() == ".parquet" else _csv(path, columns or {})
    folder = path.parent
    rows = [row for row in _rows(path, cells) if not is_excluded(row.path, exclude)]
    top = _common_top(rows)
    if top:
        folder /= top
        rows = [Row(one.where, one.path.removeprefix(f"{top}/"), one.label, one.split, one.group) for one in rows]
    return listed_rows(path, rows, lambda paths: Files(folder, Texts.of(paths)))


def _rows(path: Path, cells: Iterable[tuple[int, dict[str, str]]]) -> Iterator[Row]:
    folder = path.parent.absolute()
    for number, found in cells:
        where = f"row {number}"
        name = _inside(path, where, folder, found["path"].strip())
        label, split, group = (found.get(role, "").strip() for role in ("label", "split", "group"))
        yield Row(where, name, label, split, group)


def _inside(table: Path, where: str, folder: Path, text: str) -> str:
    """Return a path of the table relative to its folder, with forward slashes."""
    if not text or "\0" in text:
        raise DataError(f"{table} {where} has no path. Fill it in, or remove the row.")
    if "://" in text:
        raise DataError(f"{table} {where}: {short(text)} is a URL. Download the images, and write their paths.")
    windows = "\\" in text and "/" not in text
    pure: PurePath = PureWindowsPath(text) if windows else PurePosixPath(text)
    if PurePath(text).is_absolute():
        try:
            pure = PurePath(text).relative_to(folder)
        except ValueError:
            pure = PurePath("..")
    if pure.is_absolute() or ".." in pure.parts:
        raise DataError(
            f"{table} {where}: {text} is outside of {table.parent}. Move the table to a folder above all images."
        )
    return pure.as_posix()


def _common_top(rows: Sequence[Row]) -> str:
    """Return the folder around all images, unless its name means a split or the images lie directly in it."""
    tops = {row.path.partition("/")[0] if "/" in row.path else "" for row in rows}
    nested = all(row.path.count("/") > 1 for row in rows)
    top = tops.pop() if len(tops) == 1 else ""
    return top if nested and not split_role(top, short=True) else ""


def _csv(path: Path, given: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number, cells by role); row 1 is the header, as in a spreadsheet."""
    try:
        content = read_regular(path, MAX_BYTES)
    except FileNotFoundError:
        raise DataError(f"no such file: {path}. Check the path.") from None
    refuse_lfs_pointer(content, str(path))
    text, delimiter, skipped = _delimited(_text(content, path))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 1 + skipped
    try:
        header = [name.strip() for name in next(reader, [])]
        if not any(header):
            raise DataError(f"{path} is empty. Write a header and one row for each image.")
        place = {role: header.index(name) for role, name in find_columns(path, header, given).items()}
        for number, cells in enumerate(reader, start=2 + skipped):
            if not any(cells):
                continue
            if len(cells) != len(header):
                counts = f"{len(cells)} cells, the header {len(header)}"
                raise DataError(f"{path} row {number} has {counts}. Repair the row.")
            yield number, {role: cells[column] for role, column in place.items()}
    except csv.Error as error:
        ended = "a quote that is not closed" if "end of data" in str(error) else reason_of(error)
        raise DataError(f"{path} row {number + 1} cannot be read: {ended}. Repair the row.") from None


def _delimited(text: str) -> tuple[str, str, int]:
    """Return the table, its separator, and the number of lines before the header.

    These are blank, or name the separator, such as "sep=;" of Excel.
    """
    first, end, rest = text.partition("\n")
    skipped = 0
    while end and not first.strip():
        (first, end, rest), skipped = rest.partition("\n"), skipped + 1
    named = first.strip("\r")
    if named.casefold().startswith("sep=") and len(named) == 5:
        return rest, named[4], skipped + 1
    return f"{first}{end}{rest}", max(",;\t", key=first.count), skipped


def _text(content: bytes, path: Path) -> str:
    if content.startswith(_UTF32):
        raise DataError(f"{path} is not UTF-8, but UTF-32. Save the file as UTF-8.")
    if content.startswith(_UTF16):
        return content.decode("utf-16", "strict" if len(content) % 2 == 0 else "replace")
    if b"\0" in content[:4]:  # of the first letters of the header
        raise DataError(f"{path} is not UTF-8: it holds zero bytes, as UTF-16 does. Save the file as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        shown = content[error.start : error.start + 1].hex()
        raise DataError(f"{path} row {row} is not UTF-8 (byte 0x{shown}). Save the file as UTF-8.") from None


def _parquet(path: Path, given: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    if not is_installed("pyarrow"):
        raise MissingError(f"{path}: reading .parquet needs pyarrow. Install it with: pip install 'tcs-edge[parquet]'")
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        columns = find_columns(path, file.schema_arrow.names, given)
        for role, name in columns.items():
            _require_texts(path, role, name, file.schema_arrow.field(name).type)
        number = 0
        for batch in file.iter_batches(columns=list(columns.values())):
            values = {role: batch.column(name).to_pylist() for role, name in columns.items()}
            for row in zip(*values.values(), strict=True):
                number += 1
                yield number, {role: _cell(value) for role, value in zip(values, row, strict=True)}
    except FileNotFoundError:
        raise DataError(f"no such file: {path}. Check the path.") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {reason_of(error).rstrip('.')}. Write it again.") from None


def _require_texts(path: Path, role: str, name: str, kind: Any) -> None:
    """Refuse a column of bytes, structs or lists; `kind` is its Arrow type."""
    from pyarrow import types

    if not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind)):
        return
    fix = f"Pass --column {role}=NAME for a column of texts."
    if role == "path":
        fix = "Read images inside of Parquet with --data hf://FOLDER, or write them as files and list their paths."
    raise DataError(f"{path}: the column {name!r} for the {role} holds {cut(str(kind), 40)}, not texts. {fix}")


def _cell(value: Any) -> str:
    """Return a value as text; whole numbers have no decimal point, and a missing value (null or NaN) is empty."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

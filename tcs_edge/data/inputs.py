"""Images in every form in which a program has them: paths, bytes, files, Pillow images and arrays."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeGuard

import numpy as np
from PIL import Image

from tcs_edge.data.decode import as_rgb, decode_rgb, open_rgb
from tcs_edge.data.listing import Listing
from tcs_edge.errors import DataError

logger = logging.getLogger(__name__)

ImageInput: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | np.ndarray[Any, Any]
)
TAKEN = (
    "a path, the bytes of an image file, a binary file, a Pillow image, or a uint8 array "
    "(H, W) gray, (H, W, 3) RGB or (H, W, 4) RGBA"
)
_SHOWN = 200  # characters of a path; a text passed by mistake can have millions


def each_image(images: ImageInput | Iterable[ImageInput]) -> Iterator[tuple[str, Image.Image]]:
    """Yield (name, upright 8-bit RGB image) for one image or for several, one at a time.

    A path is its own name; other images are named by their position. A path and the bytes, file or Pillow image of its
    content give the same pixels.

    Args:
        images: `TAKEN`, several of these in a list or another iterable, or uint8 arrays (N, H, W, 3 or 4).

    Raises:
        DataError: another type, an array of another type or shape, or an image that cannot be decoded.
    """
    for position, item in enumerate(_each(images)):
        if isinstance(item, str | os.PathLike):
            name = os.fsdecode(item)
            yield name, _open(name)
        else:
            yield str(position), _convert(item, position)


def image_files(path: Path) -> list[Path]:
    """List the images below a folder, sorted; a path that is not a folder is returned alone.

    Entries of other programs and hidden ones are left out, as in training. The log counts what is left out.

    Raises:
        DataError: a folder without images, or one that cannot be listed.
    """
    if not path.is_dir():
        return [path]
    listing = Listing(path)
    images = listing.images(path)
    if not images:
        found = listing.unread_line() or "Pass a folder with JPEG, PNG, WebP, BMP, TIFF or GIF files."
        raise DataError(f"{path} holds no images that can be read. {found}")
    listing.report()
    if listing.others:
        logger.info(f"{path}: ignored files that are not images: {listing.others}")
    return images


def _each(images: Any) -> Iterable[Any]:
    if _is_one(images):
        return [images]
    try:
        several: Iterable[Any] = iter(images)
    except TypeError:  # also of arrays and tensors without dimensions
        raise DataError(f"cannot use {_kind(images)} as an image. Pass {TAKEN}, or several of these.") from None
    return several


def _is_one(images: object) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    return isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image) or _is_file(images)


def _is_file(item: object) -> TypeGuard[BinaryIO]:
    return callable(getattr(item, "read", None))


def _open(name: str) -> Image.Image:
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    try:
        return open_rgb(Path(name))
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, IsADirectoryError | PermissionError) and Path(name).is_dir():  # the latter on Windows
            raise DataError(f"{shown} is a folder, not an image. Pass the paths of its images.") from None
        if isinstance(cause, FileNotFoundError):
            raise DataError(f"no such image: {shown}. Check the path.") from None
        raise DataError(error.args[0].replace(str(Path(name)), shown)) from cause  # str(error) may be cut


def _convert(item: Any, position: int) -> Image.Image:
    try:
        if isinstance(item, Image.Image | np.ndarray):
            return as_rgb(item)
        if isinstance(item, bytes | bytearray | memoryview):
            return _decode(bytes(item))
        if _is_file(item):
            return _decode(_read(item))
    except DataError as error:
        raise DataError(f"cannot use image {position}: {error}. Pass {TAKEN}.") from error.__cause__
    raise DataError(f"cannot use image {position}: {_kind(item)}. Pass {TAKEN}.")


def _decode(content: bytes) -> Image.Image:
    if not content:
        raise DataError("no bytes")
    return decode_rgb(content)


def _read(file: BinaryIO) -> bytes:
    """Read a file from its start, or from here if it cannot be rewound."""
    with suppress(Exception):  # a pipe or a response of the network, whose classes raise errors of their own
        file.seek(0)
    try:
        content = file.read()
    except Exception as error:  # see above
        raise DataError(f"a file that cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(content, bytes | bytearray | memoryview):
        raise DataError(f"a file whose content is {_kind(content)}, not bytes. Open it in the mode 'rb'")
    return bytes(content)


def _kind(value: object) -> str:
    """Name the type of a value, with short values themselves."""
    shown = repr(value) if value is None or isinstance(value, bool | int | float) else ""
    name = type(value).__qualname__
    return shown if value is None else f"{name} {shown}".rstrip() if shown else f"a value of type {name}"

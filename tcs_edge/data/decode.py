"""Decoding of image files to upright 8-bit RGB, with a DataError that names an unreadable file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from tcs_edge.data.formats import EXPECTED, INSTALL, readable_formats, sniffed
from tcs_edge.data.pixels import (
    flatten,
    has_exif,
    is_deep,
    is_gray_16,
    is_turned,
    orientation_of,
    peak_of,
    scale_transparency,
    turned_by,
    upright,
)
from tcs_edge.data.thumbnail import SIDE_PX, rough_thumbnail, sketch
from tcs_edge.errors import DataError, reason_of
from tcs_edge.utils.reading import LFS_ADVICE, LFS_POINTER, is_lfs_pointer
from tcs_edge.utils.shortage import raise_shortage

MAX_PIXELS = 178_956_970  # 0.5 GB as RGB; a larger size in the header is an attack or a mistake
# A file that grows this many times in memory, and to more bytes than this, is refused. Photos grow 10 to 500 times.
BOMBS = ((10_000, 100_000_000), (3_000, 1_000_000_000))
# Huffman codes take at least 1 bit per 8 x 8 block of the first component.
MOST_JPEG_PIXELS_PER_BYTE = 512
# Most memory for decoding, in bytes per pixel, measured with Pillow 13.0: buffers of the decoder, the image, and its
# conversion to RGB. The second number is for modes other than RGB and gray; they are converted, or composited on white.
BYTES_PER_PIXEL = {"WEBP": (18, 26), "AVIF": (12, 20), "HEIF": (12, 20)}
OTHER_BYTES_PER_PIXEL = (8, 16)
PLAIN_MODES = ("RGB", "L", "1", "P")
TURNED_BYTES_PER_PIXEL = 4
# A JPEG decoder can reduce an image by 2, 4 or 8, in less than half of the time. The result keeps this many times the
# side of the views. Against the whole image, 99.9 % of their pixels then differ by at most 2 of 255, at 2 times by 3.
SPARE_PIXELS = 3
INTAKE_SIDE = 224  # the check decodes a large JPEG for views of this side, the default of teachers and students


@dataclass(frozen=True)
class Inspected:
    """Result of decoding a file once to check it.

    Attributes:
        reason: why the file is unreadable, else None.
        peak: largest value of a 16-bit file, else None. Pillow reads 16-bit color as 8 bits, so that
            peak is a multiple of 257.
        color: True for 16-bit color.
        width, height: stored size in pixels, before the EXIF rotation; 0 for an unreadable file.
        sketch: see `thumbnail.sketch`; empty for an unreadable file.
        photo: a large JPEG as `open_rgb` decodes it for views of `INTAKE_SIDE`; None for other files.
    """

    reason: str | None = None
    peak: int | None = None
    color: bool = False
    width: int = 0
    height: int = 0
    sketch: bytes = b""
    photo: Image.Image | None = None


class Readable(Protocol):
    """An image that is no file of its own, such as a member of an archive; `str` names it."""

    def read(self) -> bytes:
        """Return its bytes; raises OSError or DataError."""


def open_rgb(path: Path | Readable, view_side: int | None = None) -> Image.Image:
    """Open an image as 8-bit RGB, turned upright by its EXIF orientation.

    Transparent images are composited on white. 16-bit gray is scaled to 8 bits, as 12 bits if no value
    exceeds 4095. An animation yields its first frame, and a TIFF its first page.

    Args:
        view_side: side in pixels of the views to take from the image. A large JPEG is then decoded at 1/2, 1/4 or 1/8
            of its size, with both sides at least `SPARE_PIXELS` times `view_side`. None decodes every pixel.

    Raises:
        DataError: the file is missing, truncated, too large (over `MAX_PIXELS`) or not an image.
        MissingError: too little memory or too many open files. The image may be intact.
    """
    source: Path | bytes = b""
    try:
        source = _file_or_bytes(path)
        return _decode(source, view_side)
    except Exception as error:  # decoders raise any type on malformed bytes: SyntaxError, struct.error, ...
        raise_shortage(error)
        raise DataError(f"cannot read image {path}: {_reason(error, source)}. Replace or remove it.") from error


def _file_or_bytes(source: Path | Readable) -> Path | bytes:
    return source if isinstance(source, Path) else source.read()


def _handle(source: Path | bytes) -> Path | BytesIO:
    return BytesIO(source) if isinstance(source, bytes) else source


def decode_rgb(content: bytes) -> Image.Image:
    """Decode the bytes of an image file to the form that `open_rgb` returns.

    Raises:
        DataError: as `open_rgb`; the message is the reason alone.
    """
    try:
        return _decode(content)
    except Exception as error:  # see open_rgb
        raise_shortage(error)
        raise DataError(_reason(error, content)) from error


def as_rgb(picture: Image.Image | np.ndarray) -> Image.Image:
    """Convert an image in memory to the form that `open_rgb` returns for a file.

    Args:
        picture: a Pillow image of any mode, also one whose file is not decoded yet; or an array, uint8 (H, W) gray,
            (H, W, 3) RGB or (H, W, 4) RGBA.

    Raises:
        DataError: another array, or an image that cannot be decoded or converted; the message is the reason alone.
    """
    if isinstance(picture, np.ndarray):
        _require_pixels(picture)
        picture = Image.fromarray(np.asarray(picture))
    try:
        _refuse_unusable(picture, _stored_bytes(picture))
        if isinstance(picture, ImageFile.ImageFile) and picture.tile:
            if picture.fp is None:
                raise DataError("its file was closed before the pixels were decoded")
            scale_transparency(picture)
            picture.load()
        return flatten(upright(picture), picture.format)
    except Exception as error:  # see open_rgb
        raise_shortage(error)
        raise DataError(_reason(error)) from error


def _require_pixels(pixels: np.ndarray) -> None:
    came = f"{pixels.dtype} {pixels.shape}"
    if pixels.dtype != np.uint8:
        raise DataError(f"an array of {came}, not uint8 with values in 0..255")
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) and pixels.shape[2] not in (3, 4):
        raise DataError(f"an array of {came}, with the channels first. Pass array.transpose(1, 2, 0)")
    if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,), (4,)):
        raise DataError(f"an array of {came}, not (H, W), (H, W, 3) or (H, W, 4)")


def inspect(path: Path | Readable) -> Inspected:
    """Decode the whole file to check it. A JPEG is decoded at a reduced size, which takes less memory.

    Raises:
        MissingError: too little memory or too many open files. The image may be intact.
    """
    source: Path | bytes = b""
    try:
        source = _file_or_bytes(path)
        with Image.open(_handle(source), formats=readable_formats()) as image:
            _refuse_unusable(image, len(source) if isinstance(source, bytes) else source.stat().st_size)
            scale_transparency(image)
            deep, (width, height) = is_deep(image), image.size
            reduced = _reduce(image, INTAKE_SIDE) > 1
            if not reduced:
                image.draft(None, (SIDE_PX, SIDE_PX))
            image.load()
            flat = flatten(image, image.format) if image.mode != "RGB" or image.has_transparency_data else image
            peak = peak_of(image) if deep else None
            # A thumbnail turned upright is the same for an orientation in EXIF and for turned pixels.
            orientation = orientation_of(image) if has_exif(image) else 1
            marks = sketch(np.asarray(turned_by(Image.fromarray(rough_thumbnail(flat)), orientation)))
            photo = turned_by(flat, orientation) if reduced else None
            return Inspected(None, peak, deep and not is_gray_16(image), width, height, marks, photo)
    except Exception as error:  # see open_rgb
        raise_shortage(error)
        return Inspected(_reason(error, source))


def decoded_bytes(path: Path | Readable, check_only: bool = False, view_side: int | None = None) -> int:
    """Estimate the memory for decoding a file, from its header; 0 for a file without a readable header.

    Args:
        check_only: for `inspect` instead of `open_rgb`.
        view_side: as for `open_rgb`.
    """
    try:
        with Image.open(_handle(_file_or_bytes(path)), formats=readable_formats()) as image:
            pixels = image.width * image.height
            if check_only and image.format in ("JPEG", "MPO"):
                if reduction(image.size, INTAKE_SIDE) == 1:
                    return pixels * (6 if image.info.get("progressive") else 1)  # coefficients; rows of an eighth
                view_side = INTAKE_SIDE
            per_pixel = _bytes_per_pixel(image)
            if _reduce(image, view_side) == 1:
                return pixels * per_pixel
            return image.width * image.height * per_pixel + pixels * (6 if image.info.get("progressive") else 1)
    except Exception:  # see open_rgb; decoding the file reports the reason
        return 0


def image_size(path: Path | Readable) -> tuple[int, int]:
    """Read the stored (width, height) from the header, before the EXIF rotation.

    Raises:
        DataError: as `open_rgb`, for errors that are visible in the header.
    """
    source: Path | bytes = b""
    try:
        source = _file_or_bytes(path)
        with Image.open(_handle(source), formats=readable_formats()) as image:
            return image.size
    except Exception as error:  # see open_rgb
        raise DataError(f"cannot read image {path}: {_reason(error, source)}. Replace or remove it.") from error


def reduction(size: tuple[int, int], view_side: int) -> int:
    """Return the factor, 1, 2, 4 or 8, by which `open_rgb` reduces a JPEG of `size` for views of `view_side`."""
    spare = min(size) // (SPARE_PIXELS * view_side)
    return next((factor for factor in (8, 4, 2) if spare >= factor), 1)


def _reduce(image: Image.Image, view_side: int | None) -> int:
    """Let the decoder of a JPEG reduce it for views of `view_side`; return the factor, 1 for the stored size."""
    if view_side is None or image.format not in ("JPEG", "MPO"):
        return 1
    factor = reduction(image.size, view_side)
    if factor > 1:
        image.draft(None, (SPARE_PIXELS * view_side,) * 2)
    return factor


def _decode(source: Path | bytes, view_side: int | None = None) -> Image.Image:
    with Image.open(_handle(source), formats=readable_formats()) as image:
        _refuse_unusable(image, len(source) if isinstance(source, bytes) else source.stat().st_size)
        scale_transparency(image)
        _reduce(image, view_side)
        image.load()
        return flatten(upright(image), image.format)


def _refuse_unusable(image: Image.Image, size: int | None) -> None:
    # Pillow has this check too, but its limit is a global variable that any library may change.
    if not image.width * image.height:
        raise DataError(f"{image.width} x {image.height} pixels")
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
    if image.mode == "F":
        raise DataError("floating-point pixels, which have no fixed range")
    if size is not None:
        _refuse_bomb(image, size)


def _refuse_bomb(image: Image.Image, size: int) -> None:
    """Refuse a file of `size` bytes whose header states far more pixels than the bytes plausibly hold."""
    pixels = image.width * image.height
    needed = pixels * _bytes_per_pixel(image)
    if any(needed > factor * size and needed > least for factor, least in BOMBS):
        raise DataError(
            f"{size:,} bytes that need {needed / 1e9:.1f} GB of memory: a decompression bomb, or a false size "
            f"({image.width} x {image.height})"
        )
    if image.format in ("JPEG", "MPO") and pixels > MOST_JPEG_PIXELS_PER_BYTE * size:
        raise DataError(f"{size:,} bytes cannot hold {image.width} x {image.height} pixels: a false size")


def _stored_bytes(image: Image.Image) -> int | None:
    """Return the size of an open file; None for pixels in memory."""
    if not isinstance(image, ImageFile.ImageFile) or image.fp is None or image.fp.closed:
        return None
    place = image.fp.tell()
    size = image.fp.seek(0, os.SEEK_END)
    image.fp.seek(place)
    return size


def _bytes_per_pixel(image: Image.Image) -> int:
    """Estimate the peak memory per pixel of decoding a file, with its conversion to upright RGB."""
    plain, others = BYTES_PER_PIXEL.get(image.format or "", OTHER_BYTES_PER_PIXEL)
    # The EXIF data of a PNG may follow its pixels; looking for it there would decode them.
    turned = (image.format != "PNG" or "exif" in image.info) and is_turned(image)
    converted = image.mode not in PLAIN_MODES or "transparency" in image.info
    return (others if converted else plain) + (TURNED_BYTES_PER_PIXEL if turned else 0)


def _reason(error: Exception, source: Path | bytes = b"") -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels"
    if isinstance(error, UnidentifiedImageError):
        found = sniffed(source)
        if found == "HEIC":
            return "damaged HEIC image" if "HEIF" in readable_formats() else f"HEIC image, which needs {INSTALL}"
        if found in ("AVIF", "PSD"):
            return f"{found} image that cannot be read here"
        if source[: len(LFS_POINTER)] == LFS_POINTER if isinstance(source, bytes) else is_lfs_pointer(source):
            return f"a Git LFS pointer, not the image itself. {LFS_ADVICE}"
        return f"not a {EXPECTED} image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return reason_of(error).rstrip(".")

"""Decoding of image files to upright 8-bit RGB, with a DataError that names an unreadable file.

JPEG, PNG, WebP and BMP are accepted. The bytes of a file determine its format; the suffix only
determines whether a folder scan includes the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tcs_edge.errors import DataError, reason_of

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MAX_PIXELS = 178_956_970  # 0.5 GB as RGB; a larger size in the header is an attack or a mistake
WHITE = (255, 255, 255, 255)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def has_image_suffix(name: str) -> bool:
    """Return True if a file name has the suffix of a supported image format, in any case."""
    return name.lower().endswith(SUFFIXES)


def open_rgb(path: Path) -> Image.Image:
    """Open an image as 8-bit RGB, turned upright by its EXIF orientation.

    Transparent images are composited on white. 16-bit gray is scaled to 8 bit. An animation yields
    its first frame.

    Raises:
        DataError: the file is missing, truncated, too large (over `MAX_PIXELS`) or not an image.
    """
    try:
        return _decode(path)
    except Exception as error:  # decoders raise any type on malformed bytes: SyntaxError, struct.error, ...
        raise DataError(f"cannot read image {path}: {_reason(error)}. Replace or remove it.") from error


def as_rgb(picture: Image.Image | np.ndarray) -> Image.Image:
    """Convert an image in memory to the form that `open_rgb` returns for a file.

    Args:
        picture: a Pillow image of any mode, or uint8 (H, W, 3) RGB or (H, W) gray.

    Raises:
        DataError: the array has another shape or type.
    """
    if isinstance(picture, Image.Image):
        return _flatten(_upright(picture))
    if picture.dtype != np.uint8 or picture.shape[2:] not in ((), (3,)) or picture.ndim < 2 or picture.size == 0:
        raise DataError(f"expected a uint8 image, (H, W, 3) RGB or (H, W) gray, got {picture.dtype} {picture.shape}.")
    return _flatten(Image.fromarray(picture))


def unreadable_reason(path: Path) -> str | None:
    """Decode the whole image and return the reason if that fails, else None."""
    try:
        _decode(path)
    except Exception as error:  # see open_rgb
        return _reason(error)
    return None


def image_size(path: Path) -> tuple[int, int]:
    """Read the stored (width, height) from the header, before the EXIF rotation.

    Raises:
        DataError: as `open_rgb`, for errors that are visible in the header.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size
    except Exception as error:  # see open_rgb
        raise DataError(f"cannot read image {path}: {_reason(error)}. Replace or remove it.") from error


def _decode(path: Path) -> Image.Image:
    with Image.open(path, formats=FORMATS) as image:
        _refuse_bomb(image.size)
        image.load()
        return _flatten(_upright(image))


def _refuse_bomb(size: tuple[int, int]) -> None:
    # Pillow has this check too, but its limit is a global variable that any library may change.
    if size[0] * size[1] > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{size[0]} x {size[1]} pixels")


def _upright(image: Image.Image) -> Image.Image:
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        tag = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # files with damaged EXIF data and intact pixels are common: keep the stored orientation
        return 1
    return tag if isinstance(tag, int) else 1


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bit(image).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, WHITE), picture).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255, so most of a 16-bit image would become white.
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels"
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG, PNG, WebP or BMP image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return reason_of(error).rstrip(".")

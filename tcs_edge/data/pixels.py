"""Pixels of a decoded image as upright 8-bit RGB: orientation, 16 bits, transparency."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFile

from tcs_edge.errors import DataError

WHITE = (255, 255, 255, 255)
MAX_12_BIT, MAX_16_BIT = 4095, 65535
GRAY_STEPS = {"L;2": 85, "L;4": 17}  # 255 by the largest value of a PNG with 2 or 4 bits

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


def scale_transparency(image: ImageFile.ImageFile) -> None:
    """Scale the transparent value of a PNG as Pillow scales its pixels; call it before the pixels are loaded."""
    stored, raw = image.info.get("transparency"), str(image.tile[0].args) if image.tile else ""
    if image.format == "PNG" and isinstance(stored, int) and raw in GRAY_STEPS:
        image.info["transparency"] = stored * GRAY_STEPS[raw]
    elif image.format == "PNG" and isinstance(stored, tuple) and ";16" in raw:
        image.info["transparency"] = tuple(value >> 8 for value in stored)


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Return True for 16 bits per channel; call it before the pixels are loaded."""
    return image.format in ("PNG", "TIFF") and any(";16" in str(tile.args) for tile in image.tile)


def is_gray_16(image: Image.Image) -> bool:
    """Return True for 16-bit gray in a decoded image."""
    return image.mode == "I" or image.mode.startswith("I;16")


def peak_of(image: Image.Image) -> int:
    """Return the largest value of a 16-bit image, 0..65535; Pillow reads 16-bit color as 8 bits."""
    if is_gray_16(image):
        return int(np.asarray(image).max())
    return 257 * int(np.asarray(image.convert("RGB")).max())


def upright(image: Image.Image) -> Image.Image:
    """Turn an image by its EXIF orientation."""
    return turned_by(image, orientation_of(image))


def turned_by(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image by an EXIF orientation, 1 to 8; another number leaves it as it is."""
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def is_turned(image: Image.Image) -> bool:
    """Return True if the EXIF data asks for a turn of the pixels."""
    return orientation_of(image) in _UPRIGHT


def has_exif(image: Image.Image) -> bool:
    """Return True if the part of the file before the pixels has EXIF data."""
    return image.format == "TIFF" or "exif" in image.info or "xmp" in image.info


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation; 1, which is upright, without EXIF data or with damaged ones."""
    try:
        tag = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # files with damaged EXIF data and intact pixels are common: keep the stored orientation
        return 1
    return tag if isinstance(tag, int) else 1


def flatten(image: Image.Image, container: str | None) -> Image.Image:
    """Convert a decoded image to 8-bit RGB, on white where it is transparent.

    Args:
        container: format of its file, such as "BMP"; None for pixels in memory.

    Raises:
        DataError: gray values outside 16 bits.
    """
    if is_gray_16(image):
        return _from_16_bit(image).convert("RGB")
    # Programs that know no alpha leave the fourth byte of a 32-bit BMP at 0.
    if container in ("BMP", "DIB") and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, WHITE), picture).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scale gray values to 8 bits: from 12 bits if none exceeds 4095, else from 16 bits."""
    # Pillow's own conversion clips at 255, so most of a 16-bit image would become white.
    stored = np.asarray(image)
    if stored.min() < 0 or stored.max() > MAX_16_BIT:
        raise DataError(f"gray values outside 0..{MAX_16_BIT}")
    top = MAX_12_BIT if stored.max() <= MAX_12_BIT else MAX_16_BIT
    gray = ((stored.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray[stored == transparent] = 255
    return Image.fromarray(gray)

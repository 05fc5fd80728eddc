"""Open image files as 8-bit RGB: the same decoding as in the validation of the model."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, features

try:
    import pillow_heif
except ImportError:
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
FORMATS += (("AVIF",) if features.check("avif") else ()) + (("HEIF",) if pillow_heif else ())
MAX_PIXELS = 178_956_970  # 0.5 GB as RGB; protects against small files with a huge declared size
# A file that grows this many times in memory, and to more bytes than this, is refused. Photos grow 10 to 500 times.
BOMBS = ((10_000, 100_000_000), (3_000, 1_000_000_000))
MOST_JPEG_PIXELS_PER_BYTE = 512  # Huffman codes take at least 1 bit per 8 x 8 block
# Peak memory of decoding per pixel: modes RGB and gray, and others, which are converted or composited on white.
BYTES_PER_PIXEL = {"WEBP": (18, 26), "AVIF": (12, 20), "HEIF": (12, 20)}
OTHER_BYTES_PER_PIXEL = (8, 16)
MAX_12_BIT, MAX_16_BIT = 4095, 65535
GRAY_STEPS = {"L;2": 85, "L;4": 17}  # 255 by the largest value of a PNG with 2 or 4 bits
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_rgb(source: "str | Path | bytes", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image, or the first frame or page, as 8-bit RGB: upright by its EXIF data, transparency on white.

    Args:
        source: path of the file, or its content.

    Raises:
        ValueError: more than `max_pixels`, pixels without a fixed range, or a decompression bomb.
        OSError: not readable as an image. Decoders raise other exceptions on damaged files.
    """
    content = io.BytesIO(source) if isinstance(source, bytes) else source
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    with Image.open(content, formats=FORMATS) as image:
        if image.width * image.height > max_pixels:
            raise ValueError(f"the image has {image.width} x {image.height} pixels, more than {max_pixels}")
        if image.mode == "F":
            raise ValueError("floating-point pixels, which have no fixed range")
        refuse_bomb(image, size)
        scale_transparency(image)
        image.load()
        turn = UPRIGHT.get(orientation(image))
        return flatten(image if turn is None else image.transpose(turn), image.format)


def refuse_bomb(image: Image.Image, size: int) -> None:
    """Raise ValueError for a file of `size` bytes whose header states far more pixels than they plausibly hold."""
    pixels = image.width * image.height
    plain, others = BYTES_PER_PIXEL.get(image.format, OTHER_BYTES_PER_PIXEL)
    converted = image.mode not in ("RGB", "L", "1", "P") or "transparency" in image.info
    needed = pixels * (others if converted else plain)
    if any(needed > factor * size and needed > least for factor, least in BOMBS):
        raise ValueError(f"{size:,} bytes that need {needed / 1e9:.1f} GB of memory: a decompression bomb")
    if image.format in ("JPEG", "MPO") and pixels > MOST_JPEG_PIXELS_PER_BYTE * size:
        raise ValueError(f"{size:,} bytes cannot hold {image.width} x {image.height} pixels: a false size")


def scale_transparency(image: Image.Image) -> None:
    """Scale the transparent value of a PNG as Pillow scales its pixels; call it before the pixels are loaded."""
    stored, raw = image.info.get("transparency"), str(image.tile[0][3]) if image.tile else ""
    if image.format == "PNG" and isinstance(stored, int) and raw in GRAY_STEPS:
        image.info["transparency"] = stored * GRAY_STEPS[raw]
    elif image.format == "PNG" and isinstance(stored, tuple) and ";16" in raw:
        image.info["transparency"] = tuple(value >> 8 for value in stored)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 for missing or damaged EXIF data."""
    try:
        tag = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF data can raise anything, but the pixels are good
        return 1
    return tag if isinstance(tag, int) else 1


def flatten(image: Image.Image, container: "str | None" = None) -> Image.Image:
    """Convert any mode to RGB: 16-bit gray scaled to 8 bits, transparency on white.

    Args:
        container: format of the file, such as "BMP".
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        return scale_16_bit(image).convert("RGB")
    # Programs without alpha support leave the fourth byte of a 32-bit BMP at 0.
    if container in ("BMP", "DIB") and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    if image.has_transparency_data:
        opened = image.convert("RGBA")
        white = Image.new("RGBA", opened.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, opened).convert("RGB")
    return image.convert("RGB")


def scale_16_bit(image: Image.Image) -> Image.Image:
    """Scale gray values to 8 bits: from 12 bits if none exceeds 4095, else from 16 bits; transparency is white."""
    stored = np.asarray(image)
    if stored.min() < 0 or stored.max() > MAX_16_BIT:
        raise ValueError(f"gray values outside 0..{MAX_16_BIT}")
    top = MAX_12_BIT if stored.max() <= MAX_12_BIT else MAX_16_BIT
    gray = ((stored.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray[stored == transparent] = 255
    return Image.fromarray(gray)

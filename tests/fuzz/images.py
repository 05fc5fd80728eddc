"""Harnesses of images: every format that a folder scan reads, and the pictures of a device bundle."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from readers import Read, Reader

SIDE = 12


def _image(folder: Path) -> Read:
    from tcs_edge.data.decode import decode_rgb, decoded_bytes, image_size, inspect, open_rgb
    from tcs_edge.data.preprocess import Preprocess
    from tcs_edge.errors import DataError

    path = folder / "image.png"
    steps = Preprocess(8)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        decoded_bytes(path)
        decoded_bytes(path, check_only=True)
        reason = inspect(path).reason
        if reason is not None and len(reason.splitlines()) != 1:
            raise AssertionError(f"a reason of several lines: {reason!r}")
        with_size = image_size(path)
        opened = open_rgb(path)
        if reason is None and opened.size not in (with_size, with_size[::-1]):
            raise AssertionError(f"{opened.size} pixels, {with_size} in the header")
        steps(opened)
        decode_rgb(content)
        if reason is not None:
            raise DataError(reason)

    return read


def _classify(folder: Path) -> Read:
    """The program of a bundle, whose caller turns every exception into one line."""
    import sys

    import tcs_edge.bundle

    sys.path.append(str(Path(tcs_edge.bundle.__file__).parent / "device_files"))
    import classify
    from edge_preprocess import preprocess

    path = folder / "image.png"
    steps = {"img_size": 8, "crop_pct": 1.0, "resize": "shorter", "interpolation": "bilinear", "mean": [0.5] * 3,
             "std": [0.5] * 3}  # fmt: skip

    class Fake:
        def classify(self, image: Image.Image, top: int) -> list[tuple[str, float]]:
            preprocess(image, steps)
            return [("a", 1.0)]

        def is_unknown(self, guesses: object) -> bool:
            return False

    def read(content: bytes) -> None:
        path.write_bytes(content)
        (answer,) = classify.answer_each(Fake(), [str(path)], 1)
        if "\n" in answer.get("reason", ""):
            raise AssertionError(answer["reason"])

    return read


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    handle = io.BytesIO()
    image.save(handle, kind, **options)
    return handle.getvalue()


def _files(_: Path) -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), np.uint8)
    color, alpha = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels)
    gray, deep = Image.fromarray(pixels[..., 0]), Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [color.rotate(angle) for angle in (0, 90)]
    more = {"save_all": True, "append_images": frames[1:]}
    return [
        _saved(color, "PNG"), _saved(alpha, "PNG"), _saved(deep, "PNG"), _saved(gray.convert("1"), "PNG"),
        _saved(color.quantize(8), "PNG", transparency=1), _saved(gray, "PNG", transparency=7),
        _saved(color, "PNG", **more),
        _saved(color, "PNG", exif=turned), _saved(color, "JPEG", exif=turned), _saved(gray, "JPEG"),
        _saved(color.convert("CMYK"), "JPEG"), _saved(color, "JPEG", progressive=True), _saved(color, "WEBP"),
        _saved(alpha, "WEBP", lossless=True), _saved(color, "WEBP", **more), _saved(color, "BMP"), _saved(alpha, "BMP"),
        _saved(gray, "BMP"), _saved(color, "DIB"), _saved(color, "TIFF"), _saved(deep, "TIFF"),
        _saved(color, "TIFF", compression="tiff_lzw"), _saved(color, "TIFF", compression="jpeg"),
        _saved(color, "TIFF", **more),
        _saved(color, "GIF"), _saved(color, "GIF", **more), _saved(frames[0], "MPO", **more),
    ]  # fmt: skip


READERS = (
    Reader("image", "image", _files, _image, share=3),
    Reader("classify", "image", _files, _classify, share=3),
)

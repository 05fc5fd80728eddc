"""Make thumbnails of test images that are embedded in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from PIL import Image

from tcs_edge.data.columns import given_columns
from tcs_edge.data.decode import open_rgb
from tcs_edge.data.find import opener_of
from tcs_edge.errors import DataError, TcsEdgeError
from tcs_edge.runs.schema import Manifest

SIDE_PX = 160
PIXEL_ART_PX = 64  # images up to this size are shown unchanged
JPEG_QUALITY = 82

Open = Callable[[str], Image.Image]


def opener(manifest: Manifest, data: Path | None) -> Open | None:
    """Return a function that opens a test image by its name; None if the run's images are missing.

    Args:
        data: current folder, table or archive of the images; None uses the recorded one.
    """
    if manifest.dataset.builtin and data is None:
        return _digit_opener()
    recorded = manifest.options.get("data")
    folder = data or (Path(recorded) if isinstance(recorded, str) else None)
    if folder is None:
        return None
    if folder.is_dir():
        return lambda name: open_rgb(_inside(folder, name))
    try:
        return opener_of(folder, given_columns(manifest.options.get("column") or ()))
    except TcsEdgeError:
        return None


def _digit_opener() -> Open:
    from tcs_edge.data.digits import digits  # imported here: scikit-learn takes a second

    test = digits().test
    place = {name: index for index, name in enumerate(test.names)}

    def open_digit(name: str) -> Image.Image:
        if name not in place:
            raise DataError(f"there is no digit {name}")
        return test.image(place[name])

    return open_digit


def _inside(folder: Path, name: str) -> Path:
    """Return the file `name` of `folder`; names from an untrusted run folder must stay inside."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise DataError(f"{name!r} is not an image of {folder}")
    return folder / pure


def thumbnail(open_image: Open, name: str) -> str | None:
    """Return the image as a data URI of some kB; None for a missing or unreadable image."""
    return embedded(lambda: open_image(name))


def embedded(opened: Callable[[], Image.Image]) -> str | None:
    """Return the image that `opened` returns as a data URI of some kB; None if it raises a DataError."""
    try:
        image = opened()
    except DataError:
        return None
    stream = io.BytesIO()
    if max(image.size) <= PIXEL_ART_PX:
        image.save(stream, "PNG")
        return _uri("png", stream)
    image.thumbnail((SIDE_PX, SIDE_PX))
    image.save(stream, "JPEG", quality=JPEG_QUALITY)
    return _uri("jpeg", stream)


def _uri(kind: str, stream: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"

"""The test images that the report shows, small and inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from PIL import Image

from tcs_edge.data.decode import open_rgb
from tcs_edge.errors import DataError
from tcs_edge.runs.schema import Manifest

SIDE_PX = 160
PIXEL_ART_PX = 64  # images up to this size are shown as they are: every pixel counts
JPEG_QUALITY = 82

Open = Callable[[str], Image.Image]


def opener(manifest: Manifest, data: Path | None) -> Open | None:
    """How a test image is opened by its name; None where the run's images are not there any more.

    Args:
        data: where the images lie now; None looks where the run found them.
    """
    if manifest.dataset.builtin and data is None:
        return _digit_opener()
    recorded = manifest.options.get("data")
    folder = data or (Path(recorded) if isinstance(recorded, str) else None)
    if folder is None or not folder.is_dir():
        return None
    return lambda name: open_rgb(_inside(folder, name))


def _digit_opener() -> Open:
    from tcs_edge.data.digits import digits  # scikit-learn takes a second to import

    test = digits().test
    place = {name: index for index, name in enumerate(test.names)}

    def open_digit(name: str) -> Image.Image:
        if name not in place:
            raise DataError(f"no such digit: {name}")
        return test.image(place[name])

    return open_digit


def _inside(folder: Path, name: str) -> Path:
    """The file `name` of `folder`; a run folder that somebody else wrote must not show other files."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise DataError(f"{name!r} is no image of {folder}")
    return folder / pure


def thumbnail(open_image: Open, name: str) -> str | None:
    """The image as a data URI of some kB; None where it is gone or cannot be read any more."""
    try:
        image = open_image(name)
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

"""Preprocessing of an image to the input tensor of a model, stored with every model.

Only Pillow and numpy are needed, so a device or a test can use it without torch.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from PIL import Image

from tcs_edge.errors import SpecError, short

SCHEMA_VERSION = 1
MAX_IMG_SIZE = 4096
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_RESIZES = ("shorter", "stretch")
_ELONGATED = 16  # above this ratio of the sides, only the crop is resized and not the whole image

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing: resize with antialiasing, crop the center, divide by 255, normalize.

    Attributes:
        img_size: side of the square model input in pixels, 1..4096.
        crop_pct: fraction of the resized side that the crop keeps, in (0, 1] (timm's crop_pct).
        resize: "shorter" keeps the aspect ratio and resizes the shorter side to `resized_side`;
            "stretch" resizes both sides to it.
        interpolation: Pillow's filter; both filters antialias when shrinking.
        mean, std: per channel (R, G, B), for values in 0..1.

    Raises:
        SpecError: a value is out of its range.
    """

    img_size: int
    crop_pct: float = 1.0
    resize: Literal["shorter", "stretch"] = "shorter"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD

    def __post_init__(self) -> None:
        if not _is_whole(self.img_size) or not 1 <= self.img_size <= MAX_IMG_SIZE:
            raise SpecError(f"img_size must be a whole number in 1..{MAX_IMG_SIZE}, got {short(self.img_size)}.")
        if not _is_number(self.crop_pct) or not 0 < self.crop_pct <= 1:
            raise SpecError(f"crop_pct must be above 0 and at most 1, got {short(self.crop_pct)}.")
        _require_choice("resize", self.resize, _RESIZES)
        _require_choice("interpolation", self.interpolation, tuple(_FILTERS))
        object.__setattr__(self, "mean", _triple("mean", self.mean))
        object.__setattr__(self, "std", _triple("std", self.std))
        if min(self.std) <= 0:
            raise SpecError(f"std must be above 0 in every channel, got {list(self.std)}.")

    @property
    def resized_side(self) -> int:
        """floor(img_size / crop_pct): the side before the crop, never below `img_size`."""
        return math.floor(self.img_size / self.crop_pct)

    @property
    def tensor_bytes(self) -> int:
        """Size of the model's input for one image: float32 (3, img_size, img_size)."""
        return 12 * self.img_size**2

    @property
    def view_bytes(self) -> int:
        """Size of one view before its normalization: uint8 (img_size, img_size, 3)."""
        return 3 * self.img_size**2

    @property
    def resampling(self) -> Image.Resampling:
        """Pillow's filter of `interpolation`."""
        return _FILTERS[self.interpolation]

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Preprocess an RGB image of any size to float32 (3, img_size, img_size), normalized."""
        return self.normalize(np.asarray(self.crop(image)))

    def crop(self, image: Image.Image) -> Image.Image:
        """Resize and center-crop to an 8-bit RGB image of img_size x img_size."""
        if image.mode != "RGB":
            raise ValueError(f"Preprocess takes RGB images, got mode {image.mode}. Open them with open_rgb.")
        width, height = self._resized_size(image.size)
        left, top = (width - self.img_size) // 2, (height - self.img_size) // 2
        window = (left, top, left + self.img_size, top + self.img_size)
        if max(width, height) > _ELONGATED * min(width, height):
            return self._resize_window(image, (width, height), window)
        return image.resize((width, height), self.resampling).crop(window)

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """Convert uint8 (H, W, 3) to float32 (3, H, W): (pixels / 255 - mean) / std, in float32 arithmetic."""
        mean, std = (np.array(values, dtype=np.float32).reshape(3, 1, 1) for values in (self.mean, self.std))
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
        planes /= np.float32(255)
        planes -= mean
        planes /= std
        return planes

    def _resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        side, (width, height) = self.resized_side, size
        if self.resize == "stretch":
            return side, side
        if width <= height:
            return side, side * height // width
        return side * width // height, side

    def _resize_window(
        self, image: Image.Image, size: tuple[int, int], window: tuple[int, int, int, int]
    ) -> Image.Image:
        # Resizing a 1 x 60000 image would take gigabytes, and the crop keeps only one square.
        across, down = image.width / size[0], image.height / size[1]
        right, bottom = min(window[2] * across, image.width), min(window[3] * down, image.height)
        box = (window[0] * across, window[1] * down, right, bottom)
        return image.resize((self.img_size, self.img_size), self.resampling, box=box)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document of all values, with each step in words under `description`."""
        values = asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
        return {"schema_version": SCHEMA_VERSION, **values, "description": self.describe()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Preprocess:
        """Read a document of `to_json`; `description` is for readers and has no effect.

        Raises:
            SpecError: another schema version, a missing or unknown key, or a value out of its range.
        """
        if not isinstance(document, dict):
            raise SpecError(f"preprocess: expected a JSON object, got {type(document).__name__}.")
        if document.get("schema_version") != SCHEMA_VERSION:
            came = document.get("schema_version")
            raise SpecError(
                f"preprocess: schema_version is {short(came)}, this version reads {SCHEMA_VERSION}. Run compress again."
            )
        values = {key: document[key] for key in document if key not in ("schema_version", "description")}
        _require_keys(set(values), {field.name for field in fields(cls)})
        return cls(**values)

    def describe(self) -> list[str]:
        """Describe every step in words and numbers, for reimplementing it in another language."""
        size, side = self.img_size, self.resized_side
        return [
            "Decode to 8-bit RGB (channel order R, G, B), turn upright by EXIF orientation, "
            "lay transparency on white, scale 16-bit grey to 8 bit as round(v * 255 / 65535).",
            self._describe_resize(side),
            f"Crop the centre {size} x {size}: left = floor((width - {size}) / 2), top = floor((height - {size}) / 2).",
            "Convert to float32 and divide by 255.",
            f"Per channel: (value - mean) / std with mean {list(self.mean)} and std {list(self.std)}.",
            f"Lay out as (1, 3, {size}, {size}): batch, channel, row, column.",
        ]

    def _describe_resize(self, side: int) -> str:
        if self.resize == "stretch":
            target = f"Resize to {side} x {side}, whatever the aspect ratio,"
        else:
            target = f"Resize so that the shorter side is {side}, the longer floor({side} * longer / shorter),"
        return (
            f"{target} with a {self.interpolation} filter that widens with the shrink factor "
            "(antialiasing, as Pillow does; OpenCV's INTER_LINEAR does not), rounded to 8 bit."
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require_choice(key: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SpecError(f"{key} must be {' or '.join(allowed)}, got {short(value)}.")


def _triple(key: str, values: object) -> Triple:
    if not isinstance(values, list | tuple) or len(values) != 3 or not all(map(_is_number, values)):
        raise SpecError(f"{key} must be three finite numbers (R, G, B), got {short(values)}.")
    red, green, blue = map(float, values)
    return red, green, blue


def _require_keys(came: set[str], wanted: set[str]) -> None:
    if missing := sorted(wanted - came):
        raise SpecError(f"preprocess: missing {', '.join(missing)}.")
    if unknown := sorted(came - wanted, key=str):
        raise SpecError(
            f"preprocess: unknown {', '.join(map(short, unknown[:5]))}. Known: {', '.join(sorted(wanted))}."
        )

"""Preprocess RGB images as in preprocess.json: resize, crop the center, normalize."""

import math

import numpy as np
from PIL import Image

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
ELONGATED = 16  # above this ratio of sides only the cropped part is resized


def preprocess(image: Image.Image, steps: dict) -> np.ndarray:
    """Preprocess an RGB image of any size to float32 (3, S, S) as in preprocess.json."""
    pixels = np.asarray(crop(image, steps))
    mean, std = (np.array(steps[key], dtype=np.float32).reshape(3, 1, 1) for key in ("mean", "std"))
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
    planes /= np.float32(255)
    planes -= mean
    planes /= std
    return planes


def crop(image: Image.Image, steps: dict) -> Image.Image:
    """Resize with antialiasing and crop the center to an RGB image of S x S."""
    size, resampling = steps["img_size"], FILTERS[steps["interpolation"]]
    width, height = resized_size(image.size, steps)
    left, top = (width - size) // 2, (height - size) // 2
    window = (left, top, left + size, top + size)
    if max(width, height) <= ELONGATED * min(width, height):
        return image.resize((width, height), resampling).crop(window)
    # A 1 x 60000 image would be resized to gigabytes, although the crop keeps one square.
    across, down = image.width / width, image.height / height
    right, bottom = min(window[2] * across, image.width), min(window[3] * down, image.height)
    return image.resize((size, size), resampling, box=(left * across, top * down, right, bottom))


def resized_size(size: tuple[int, int], steps: dict) -> tuple[int, int]:
    """Return width and height before the crop."""
    side, (width, height) = math.floor(steps["img_size"] / steps["crop_pct"]), size
    if steps["resize"] == "stretch":
        return side, side
    if width <= height:
        return side, side * height // width
    return side * width // height, side

"""Copies of an image as people make them: encoded again, resized, mirrored or cropped."""

from __future__ import annotations

import io

from PIL import Image

BOXES = {"moved": (1, 1, 95, 94), "cropped": (11, 3, 91, 87)}  # of 96 px; moved is the next photo of a burst


def altered(image: Image.Image, how: str) -> Image.Image:
    if how == "encoded":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=50)
        return Image.open(file).convert("RGB")
    if how == "resized":
        return image.resize((61, 61), Image.Resampling.BICUBIC)
    if how == "mirrored":
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.crop(BOXES[how])

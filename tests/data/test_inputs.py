"""One image in every form in which a program has it: the same pixels, or one error with the forms that work."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcs_edge.data.decode import open_rgb
from tcs_edge.data.inputs import each_image
from tcs_edge.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (7, 9, 4), dtype=np.uint8)


def only(images) -> Image.Image:
    ((_, image),) = each_image(images)
    return image


def rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(path.with_suffix(".jpg"), exif=exif)
    return path.with_suffix(".jpg")


def cmyk(path):
    Image.fromarray(RGB).convert("CMYK").save(path.with_suffix(".jpg"))
    return path.with_suffix(".jpg")


def gray_16(path):
    Image.fromarray(RNG.integers(0, 65536, (7, 9), dtype=np.uint16)).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def gray_12(path):
    Image.fromarray(RNG.integers(0, 4096, (7, 9), dtype=np.uint16)).save(path.with_suffix(".tif"))
    return path.with_suffix(".tif")


def transparent(path):
    Image.fromarray(RGBA).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def palette(path):
    Image.fromarray(RGB).quantize(8).save(path.with_suffix(".gif"), transparency=3)
    return path.with_suffix(".gif")


def gray_2_transparent(path):
    """A PNG with 2 bits per pixel, whose value 1 is transparent."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0)), (b"tRNS", b"\0\1"),
        (b"IDAT", zlib.compress(b"\0\x1b")), (b"IEND", b""),
    ]  # fmt: skip
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    path.with_suffix(".png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path.with_suffix(".png")


def bmp_without_alpha(path):
    Image.fromarray(np.dstack([RGB, np.zeros((7, 9), np.uint8)])).save(path.with_suffix(".bmp"))
    return path.with_suffix(".bmp")


MAKERS = (rotated, cmyk, gray_16, gray_12, transparent, palette, gray_2_transparent, bmp_without_alpha)


@pytest.mark.parametrize("make", MAKERS)
def test_a_file_gives_the_same_pixels_in_every_form(tmp_path, make):
    path = make(tmp_path / "image")
    content = path.read_bytes()
    wanted = np.asarray(open_rgb(path))
    with path.open("rb") as file, tempfile.SpooledTemporaryFile() as spooled, Image.open(path) as opened:
        spooled.write(content)  # its position is the end
        (entry,) = os.scandir(tmp_path)
        forms = [
            path, str(path), entry, content, bytearray(content), memoryview(content), file, io.BytesIO(content),
            spooled, opened, opened,
        ]  # fmt: skip
        for form in forms:
            assert np.array_equal(np.asarray(only(form)), wanted), type(form)


def test_a_file_that_cannot_be_rewound_is_read_from_here(tmp_path):
    class Response:
        def __init__(self, content):
            self.content = content

        def read(self):
            return self.content

    path = transparent(tmp_path / "image")
    assert np.array_equal(np.asarray(only(Response(path.read_bytes()))), np.asarray(open_rgb(path)))


def test_arrays_are_gray_rgb_or_rgba_in_any_memory_order():
    assert np.array_equal(np.asarray(only(RGB)), RGB)
    assert np.array_equal(np.asarray(only(RGB[::-1, :, ::-1])), RGB[::-1, :, ::-1])
    assert np.array_equal(np.asarray(only(np.asfortranarray(RGB))), RGB)
    assert np.array_equal(np.asarray(only(RGB[..., 0])), np.dstack([RGB[..., 0]] * 3))
    white = Image.alpha_composite(Image.new("RGBA", (9, 7), (255, 255, 255, 255)), Image.fromarray(RGBA))
    assert np.array_equal(np.asarray(only(RGBA)), np.asarray(white.convert("RGB")))
    assert [image.size for _, image in each_image(np.stack([RGB, RGB]))] == [(9, 7)] * 2


def test_several_images_keep_their_order_and_names(tmp_path):
    path = transparent(tmp_path / "image")
    items = [path, Image.fromarray(RGB), str(path), RGB]
    assert [name for name, _ in each_image(items)] == [str(path), "1", str(path), "3"]
    assert [name for name, _ in each_image(item for item in items)] == [str(path), "1", str(path), "3"]
    assert list(each_image([])) == []


def test_images_of_an_iterator_are_taken_one_at_a_time():
    taken = []
    images = each_image(taken.append(index) or RGB for index in range(100))
    next(images)
    assert len(taken) == 1


def closed_image(tmp_path):
    with Image.open(transparent(tmp_path / "image")) as image:
        return image


def text_file(_):
    return io.TextIOWrapper(io.BytesIO(b"text"))


def closed_file(tmp_path):
    with transparent(tmp_path / "image").open("rb") as file:
        return file


def truncated(tmp_path):
    return rotated(tmp_path / "image").read_bytes()[:400]


WRONG = {
    "none": (lambda _: None, "None"),
    "int": (lambda _: 3, "int 3"),
    "bool": (lambda _: True, "bool True"),
    "ints": (lambda _: [1, 2, 3], "image 0: int 1"),
    "nested": (lambda _: [[RGB]], "type list"),
    "object": (lambda _: object(), "type object"),
    "dict": (lambda _: {1: RGB}, "int 1"),
    "torch": (lambda _: __import__("torch").zeros(3, 8, 8), "type Tensor"),
    "float": (lambda _: RGB / 255, "float64 .* not uint8"),
    "bools": (lambda _: RGB > 9, "bool .* not uint8"),
    "uint16": (lambda _: RGB.astype(np.uint16), "uint16 .* not uint8"),
    "objects": (lambda _: np.array([None]), "object .* not uint8"),
    "text": (lambda _: np.array("a.jpg"), "not uint8"),
    "channels first": (lambda _: RGB.transpose(2, 0, 1), r"channels first.*transpose\(1, 2, 0\)"),
    "batch": (lambda _: np.stack([RGB.transpose(2, 0, 1)] * 2), r"image 0.*transpose\(1, 2, 0\)"),
    "two channels": (lambda _: RGB[..., :2], r"not \(H, W\)"),
    "one row": (lambda _: RGB[0, 0], r"not \(H, W\)"),
    "five": (lambda _: RGB[None, None], r"not \(H, W\)"),
    "no pixels": (lambda _: RGB[:0], "9 x 0 pixels"),
    "no pillow pixels": (lambda _: Image.new("RGB", (0, 4)), "0 x 4 pixels"),
    "float image": (lambda _: Image.new("F", (4, 4)), "floating-point pixels"),
    "negative": (lambda _: Image.new("I", (4, 4), -5), "outside 0..65535"),
    "closed image": (closed_image, "closed before"),
    "text file": (text_file, "not bytes. Open it in the mode 'rb'"),
    "text in memory": (lambda _: io.StringIO("text"), "not bytes"),
    "closed file": (closed_file, "cannot be read .ValueError"),
    "empty bytes": (lambda _: b"", "no bytes"),
    "empty file": (lambda _: io.BytesIO(), "no bytes"),
    "bytes of text": (lambda _: b"/home/me/cat.jpg", "not a JPEG"),
    "truncated": (truncated, "(?i)truncated"),
    "folder": (lambda tmp_path: tmp_path, "is a folder"),
    "empty path": (lambda _: Path(), "is a folder"),
    "empty text": (lambda _: "", "."),
    "missing": (lambda _: "missing.jpg", "no such image: missing.jpg. Check the path"),
    "address": (lambda _: "https://example.com/a.jpg", "no such image"),
    "null": (lambda _: "a\0b.jpg", "null"),
    "long": (lambda _: "x" * 100_000, "name too long"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_error_with_a_fix(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    make, said = WRONG[case]
    with pytest.raises(DataError, match=said) as caught:
        list(each_image(make(tmp_path)))
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    assert any(word in text for word in ("Pass", "Check", "Replace")), text


def test_the_wrong_image_among_several_is_named():
    with pytest.raises(DataError, match="image 1: None"):
        list(each_image([RGB, None, RGB]))

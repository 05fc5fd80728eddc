from __future__ import annotations

import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tcs_edge.data.decode import MAX_PIXELS, has_image_suffix, image_size, open_rgb, unreadable_reason
from tcs_edge.errors import DataError


def pixels(path):
    image = open_rgb(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "jpg", "JPEG"])
def test_each_format_keeps_the_pixels(tmp_path, picture, suffix):
    path = tmp_path / f"a.{suffix}"
    picture(1, 32, 24).save(path, **({"lossless": True} if suffix == "webp" else {}))
    error = np.abs(pixels(path).astype(int) - np.asarray(picture(1, 32, 24)).astype(int))
    assert error.mean() < (6 if suffix.lower() in ("jpg", "jpeg") else 1e-9)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    """The tag gives the position of row 0 and column 0 of the stored image in the upright image."""
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :16] = 255  # white: first rows, first columns
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(path, exif=exif)
    top, left = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[orientation]
    upright = pixels(path)[..., 0]
    assert upright.shape == ((16, 32) if orientation < 5 else (32, 16))
    half_h, half_w = upright.shape[0] // 2, upright.shape[1] // 2
    corner = upright[top * half_h : (top + 1) * half_h, left * half_w : (left + 1) * half_w]
    assert corner.mean() > 250
    assert upright.sum() < 1.05 * corner.sum()


def test_orientation_6_pixel_by_pixel(tmp_path):
    stored = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(tmp_path / "a.png"), np.rot90(stored, k=-1))


def test_broken_exif_keeps_the_stored_orientation(tmp_path, picture):
    path = tmp_path / "a.jpg"
    picture().save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert open_rgb(path).size == picture().size


def test_16_bit_gray_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 256, 257, 32768], [385, 386, 65534, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    expected = np.array([[round(v / 257) for v in row] for row in values.tolist()])
    assert np.array_equal(pixels(tmp_path / "a.png")[..., 0], expected)
    assert np.array_equal(pixels(tmp_path / "a.png")[..., 2], expected)


def test_1_bit_and_gray_images_become_rgb(tmp_path):
    bits = np.array([[True, False, True]])
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[0, :, 1].tolist() == [255, 0, 255]
    Image.fromarray(np.array([[7, 200]], np.uint8)).save(tmp_path / "b.bmp")
    assert pixels(tmp_path / "b.bmp")[0].tolist() == [[7, 7, 7], [200, 200, 200]]


def test_cmyk_jpeg_is_converted_to_rgb(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "a.jpg")[8, 8].astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(tmp_path, mode):
    color = (0, 0, 0, 0) if mode == "RGBA" else (0, 0)
    image = Image.new(mode, (3, 1), color)
    image.putpixel((1, 0), (0, 0, 0, 255) if mode == "RGBA" else (0, 255))
    image.putpixel((2, 0), (0, 0, 0, 51) if mode == "RGBA" else (0, 51))
    image.save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[0, :, 0].tolist() == [255, 0, 204]


def test_transparent_palette_entry_becomes_white(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0])
    for x in range(3):
        image.putpixel((x, 0), x)
    image.save(tmp_path / "a.png", transparency=bytes([255, 0, 255]))
    assert pixels(tmp_path / "a.png")[0].tolist() == [[255, 0, 0], [255, 255, 255], [0, 255, 0]]


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_an_animation_gives_its_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    lossless = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **lossless)
    assert pixels(tmp_path / f"a.{suffix}")[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_error_names_a_truncated_file(tmp_path, picture, suffix):
    path = tmp_path / f"cut.{suffix}"
    picture(3, 64, 64).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=r"cannot read image .*cut\.") as caught:
        open_rgb(path)
    assert "\n" not in str(caught.value)
    assert unreadable_reason(path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"GIF89a" + bytes(40), b"\xff\xd8\xff"])
def test_error_names_a_file_that_is_not_an_image(tmp_path, content):
    path = tmp_path / "fake.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"fake\.jpg"):
        open_rgb(path)
    with pytest.raises(DataError, match=r"fake\.jpg"):
        image_size(path)


def test_other_formats_are_refused_under_any_suffix(tmp_path, picture):
    picture().save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="not a JPEG, PNG, WebP or BMP"):
        open_rgb(tmp_path / "a.png")


def test_error_names_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        open_rgb(tmp_path / "gone.png")


def _png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("lifted", [True, False])
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, lifted):
    if lifted:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_header(20_000, MAX_PIXELS // 20_000 + 1))
    with pytest.raises(DataError, match=r"bomb\.png: more than 178,956,970 pixels"):
        open_rgb(path)


def test_image_size_returns_the_stored_size(tmp_path, picture):
    picture(0, 12, 9).save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") == (12, 9)


def test_has_image_suffix():
    assert all(map(has_image_suffix, ["a.jpg", "A.JPG", "a.b.Jpeg", "x.png", "x.webp", "x.bmp"]))
    assert not any(map(has_image_suffix, ["a.gif", "a.tif", "jpg", "a.jpg.txt", "a"]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(["jpg", "png", "webp", "bmp"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_bytes_decode_or_raise_data_error(tmp_path, picture, suffix, changes):
    path = tmp_path / f"a.{suffix}"
    picture(5, 24, 24).save(path)
    data = bytearray(path.read_bytes())
    for where, value in changes:
        data[int(where * len(data))] = value
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reason = unreadable_reason(path)
        if reason is None:
            assert open_rgb(path).mode == "RGB"
        else:
            with pytest.raises(DataError, match=path.name):
                open_rgb(path)

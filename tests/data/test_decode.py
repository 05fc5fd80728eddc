from __future__ import annotations

import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from tcs_edge.data import Preprocess
from tcs_edge.data.decode import MAX_PIXELS, as_rgb, decoded_bytes, image_size, inspect, open_rgb, reduction
from tcs_edge.data.formats import has_image_suffix, readable_formats
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


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif"])
def test_error_names_a_truncated_file(tmp_path, picture, suffix):
    path = tmp_path / f"cut.{suffix}"
    picture(3, 64, 64).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=r"cannot read image .*cut\.") as caught:
        open_rgb(path)
    assert "\n" not in str(caught.value)
    assert inspect(path).reason


@pytest.mark.parametrize("content", [b"", b"not an image", b"GIF89a" + bytes(40), b"\xff\xd8\xff"])
def test_error_names_a_file_that_is_not_an_image(tmp_path, content):
    path = tmp_path / "fake.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"fake\.jpg"):
        open_rgb(path)
    with pytest.raises(DataError, match=r"fake\.jpg"):
        image_size(path)


def test_other_formats_are_refused_under_any_suffix(tmp_path, picture):
    picture().save(tmp_path / "a.ppm")
    (tmp_path / "a.ppm").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="not a JPEG, PNG, WebP, BMP, TIFF or GIF"):
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
    assert all(map(has_image_suffix, ["a.jpg", "A.JPG", "a.b.Jpeg", "x.png", "x.webp", "x.bmp", "x.jfif"]))
    assert all(map(has_image_suffix, ["x.JPE", "x.tif", "x.TIFF", "x.gif"]))
    assert not any(map(has_image_suffix, ["a.psd", "a.cr2", "jpg", "a.jpg.txt", "a"]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(["jpg", "png", "webp", "bmp", "gif", "tif"]),
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
        reason = inspect(path).reason
        if reason is None:
            assert open_rgb(path).mode == "RGB"
        else:
            with pytest.raises(DataError, match=path.name):
                open_rgb(path)


def _gray16(path, values, **options):
    Image.fromarray(np.array(values, np.uint16)).save(path, **options)
    return pixels(path)[..., 0].tolist()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_gray_up_to_4095_is_scaled_as_12_bits(tmp_path, suffix):
    assert _gray16(tmp_path / f"a.{suffix}", [[0, 16, 2048, 4095]]) == [[0, 1, 128, 255]]
    assert _gray16(tmp_path / f"b.{suffix}", [[0, 4095, 4096, 65535]]) == [[0, 16, 16, 255]]
    assert _gray16(tmp_path / f"c.{suffix}", [[0, 0]]) == [[0, 0]]


def test_12_bit_gray_in_memory_is_scaled_as_in_a_file(tmp_path):
    image = Image.fromarray(np.array([[0, 2048, 4095]], np.uint16))
    assert np.asarray(as_rgb(image))[0, :, 1].tolist() == [0, 128, 255]


def test_big_endian_tiff_is_scaled(tmp_path):
    image = Image.fromarray(np.array([[0, 300, 65535]], ">u2"))
    assert image.mode == "I;16B"
    image.save(tmp_path / "a.tif")
    assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), "floating-point pixels"),
        (np.array([[0, 70_000]], np.int32), r"gray values outside 0\.\.65535"),
        (np.array([[-3, 7]], np.int32), r"gray values outside 0\.\.65535"),
    ],
)
def test_pixels_without_a_known_range_are_refused(tmp_path, values, reason):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=reason):
        open_rgb(tmp_path / "a.tif")
    assert inspect(tmp_path / "a.tif").reason


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _write_png(path, width: int, depth: int, kind: int, rows: list[bytes], transparent: bytes = b"") -> None:
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0))]
    chunks += [_chunk(b"tRNS", transparent)] if transparent else []
    chunks += [_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), _chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "expected"),
    [
        (1, bytes([0b01000000]), 0, [255, 255]),
        (2, bytes([0b01110000]), 1, [255, 255]),
        (2, bytes([0b01100000]), 0, [85, 170]),
        (4, bytes([0x1E]), 1, [255, 238]),
        (8, bytes([1, 9]), 1, [255, 9]),
    ],
)
def test_transparent_gray_of_every_depth_is_white(tmp_path, depth, row, transparent, expected):
    _write_png(tmp_path / "a.png", 2, depth, 0, [row], struct.pack(">H", transparent))
    assert pixels(tmp_path / "a.png")[0, :, 2].tolist() == expected


def test_transparent_16_bit_color_is_white(tmp_path):
    row = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 5000, 6000, 7000)
    _write_png(tmp_path / "a.png", 2, 16, 2, [row], row[:6])
    assert pixels(tmp_path / "a.png")[0].tolist() == [[255, 255, 255], [19, 23, 27]]


@pytest.mark.parametrize("top", [4095, 65535])
def test_transparent_16_bit_gray_is_white(tmp_path, top):
    rows = np.array([[7, 0, top], [0, 7, 0]], ">u2")
    _write_png(tmp_path / "a.png", 3, 16, 0, [row.tobytes() for row in rows], struct.pack(">H", 7))
    assert pixels(tmp_path / "a.png")[..., 0].tolist() == [[255, 0, 255], [0, 255, 0]]


def _bmp_32(alpha: list[int]) -> bytes:
    """A BMP of one row with a V4 header that declares alpha; every pixel is (10, 20, 30)."""
    body = b"".join(bytes([30, 20, 10, a]) for a in alpha)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, len(alpha), 1, 1, 32, 3, len(body), 2835, 2835, 0, 0) + masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(body), 0, 0, 14 + len(info)) + info + body


def test_a_32_bit_bmp_without_any_alpha_is_opaque(tmp_path):
    (tmp_path / "a.bmp").write_bytes(_bmp_32([0, 0]))
    assert pixels(tmp_path / "a.bmp")[0].tolist() == [[10, 20, 30]] * 2
    with Image.open(tmp_path / "a.bmp") as opened:
        assert opened.mode == "RGBA"
        assert np.asarray(as_rgb(opened))[0].tolist() == [[10, 20, 30]] * 2
    (tmp_path / "b.bmp").write_bytes(_bmp_32([0, 255]))
    assert pixels(tmp_path / "b.bmp")[0].tolist() == [[255, 255, 255], [10, 20, 30]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["webp", "tif", "avif"])
def test_exif_orientation_of_every_container_is_that_of_png(tmp_path, suffix, orientation):
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8], stored[8:, 16:] = (255, 0, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    options = {"tif": {"tiffinfo": {0x0112: orientation}}, "webp": {"exif": exif, "lossless": True}}
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", **options.get(suffix, {"exif": exif, "quality": 100}))
    ours, expected = (pixels(tmp_path / name).astype(int) for name in (f"a.{suffix}", "a.png"))
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).mean() < 8


@pytest.mark.parametrize("suffix", ["gif", "tif"])
def test_the_first_frame_or_page_is_read(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / f"a.{suffix}")[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "group4"])
def test_compressed_tiff_is_read(tmp_path, picture, compression):
    mode = "1" if compression == "group4" else "RGB"
    image = picture(3, 40, 30).convert(mode)
    image.save(tmp_path / "a.tif", compression=compression)
    error = np.abs(pixels(tmp_path / "a.tif").astype(int) - np.asarray(image.convert("RGB")).astype(int))
    assert error.mean() < (8 if compression == "jpeg" else 1e-9)


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "mpo"])
def test_jpeg_is_read_under_its_other_suffixes(tmp_path, picture, suffix):
    picture(1, 32, 24).save(tmp_path / f"a.{suffix}", "JPEG")
    assert has_image_suffix(f"a.{suffix}")
    assert pixels(tmp_path / f"a.{suffix}").shape == (24, 32, 3)


def test_a_stereo_photo_gives_its_first_image(tmp_path):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.format == "MPO"
    assert np.abs(pixels(tmp_path / "a.jpg")[8, 8].astype(int) - [255, 0, 0]).max() <= 3
    assert inspect(tmp_path / "a.jpg").reason is None


def test_transparent_gif_is_composited_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.gif", transparency=1)
    assert pixels(tmp_path / "a.gif")[0].tolist() == [[255, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_check_of_a_jpeg_equals_decoding_it_whole(tmp_path, picture, mode, progressive):
    """The check decodes at an eighth of the size; it must find the same damage."""
    path = tmp_path / "a.jpg"
    picture(4, 120, 90).convert(mode).save(path, progressive=progressive)
    whole = path.read_bytes()
    for end in [*range(0, len(whole), 37), len(whole) - 2, len(whole) - 1, len(whole)]:
        path.write_bytes(whole[:end])
        try:
            open_rgb(path)
            readable = True
        except DataError:
            readable = False
        assert (inspect(path).reason is None) == readable, end


def test_the_check_reports_the_largest_value_of_16_bit_files(tmp_path, picture):
    _gray16(tmp_path / "a.png", [[5, 300]])
    assert (inspect(tmp_path / "a.png").peak, inspect(tmp_path / "a.png").color) == (300, False)
    picture().save(tmp_path / "b.png")
    assert inspect(tmp_path / "b.png").peak is None
    _write_png(tmp_path / "c.png", 2, 16, 2, [np.full(6, 4000, ">u2").tobytes()] * 2)
    assert (inspect(tmp_path / "c.png").peak, inspect(tmp_path / "c.png").color) == (15 * 257, True)


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_a_heic_file_is_named_as_such(tmp_path, brand):
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(100))
    reason = inspect(tmp_path / "a.jpg").reason
    if "HEIF" not in readable_formats():
        assert reason == "HEIC image, which needs pip install 'tcs-edge[heif]'"
    else:
        assert reason == "damaged HEIC image"


def test_heic_is_read_with_the_extra(tmp_path, picture):
    pytest.importorskip("pillow_heif", reason="the extra 'heif' is not installed")
    assert has_image_suffix("IMG_0001.HEIC")
    picture(1, 64, 48).save(tmp_path / "a.heic", quality=95)
    error = np.abs(pixels(tmp_path / "a.heic").astype(int) - np.asarray(picture(1, 64, 48)).astype(int))
    assert error.mean() < 8


def photo(path, picture, exif=None):
    image = picture(3, 1200, 900).filter(ImageFilter.GaussianBlur(1))
    image.save(path, quality=92, **({"exif": exif} if exif else {}))
    return path


@pytest.mark.parametrize(("side", "factor"), [(300, 1), (150, 2), (75, 4), (37, 8), (8, 8)])
def test_a_large_jpeg_is_reduced_while_it_is_decoded(tmp_path, picture, side, factor):
    path = photo(tmp_path / "photo.jpg", picture)
    image = open_rgb(path, side)
    assert reduction((1200, 900), side) == factor
    assert image.size == (-(-1200 // factor), -(-900 // factor))
    assert (decoded_bytes(path, view_side=side) < decoded_bytes(path)) == (factor > 1)
    preprocess = Preprocess(side, mean=(0, 0, 0), std=(1, 1, 1))
    difference = 255 * np.abs(preprocess(image) - preprocess(open_rgb(path)))
    assert np.quantile(difference, 0.99) <= (3.01 if factor == 8 else 2.01)
    assert difference.max() <= 5.01


def test_a_reduced_jpeg_is_upright(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_rgb(photo(tmp_path / "photo.jpg", picture, exif), 37).size == (113, 150)


@pytest.mark.parametrize("name", ["photo.png", "photo.webp"])
def test_other_formats_are_decoded_whole(tmp_path, picture, name):
    picture(0, 400, 300).save(tmp_path / name)
    assert open_rgb(tmp_path / name, 8).size == (400, 300)


def test_a_truncated_jpeg_is_refused_when_reduced(tmp_path, picture):
    path = photo(tmp_path / "photo.jpg", picture)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(DataError, match=r"photo\.jpg"):
        open_rgb(path, 37)

"""Decompression bombs and false sizes: refused with their name, by tcs-edge and by the device's script."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from tcs_edge.data.decode import as_rgb, decode_rgb, inspect, open_rgb
from tcs_edge.errors import DataError

DECODER = Path(__file__).resolve().parents[2] / "tcs_edge" / "bundle" / "device_files" / "edge_images.py"
AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def flat_png(width: int, height: int, depth: int, kind: int, extra: bytes = b"") -> bytes:
    """PNG with zeros alone, compressed as far as deflate goes."""
    row = bytes((width * depth * {0: 1, 2: 3, 3: 1, 6: 4}[kind] + 7) // 8 + 1)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def stated(width: int, height: int, **options: object) -> bytes:
    """JPEG of 8 x 8 pixels whose header states another size."""
    found = BytesIO()
    Image.new("RGB", (8, 8)).save(found, "JPEG", **options)
    content = found.getvalue()
    place = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    return content[: place + 5] + struct.pack(">HH", height, width) + content[place + 9 :]


def saved(kind: str, size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    found = BytesIO()
    Image.new(mode, size).save(found, kind, **options)
    return found.getvalue()


def small_gif_on_a_large_screen() -> bytes:
    content = saved("GIF", (2, 2))
    return content[:6] + struct.pack("<HH", 13000, 13000) + content[10:]


PALETTE = chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\x80")
BOMBS: dict[str, Callable[[], bytes]] = {
    "a.webp": lambda: saved("WEBP", (16000, 11000), lossless=True, method=0, quality=0),
    "smaller.webp": lambda: saved("WEBP", (4000, 3000), lossless=True, method=0, quality=0),
    "palette.png": lambda: flat_png(13377, 13377, 1, 3, PALETTE),
    "deep.png": lambda: flat_png(13377, 13377, 16, 0),
    "line.png": lambda: flat_png(178_956_970, 1, 1, 0),
    "a.gif": small_gif_on_a_large_screen,
    "a.tif": lambda: saved("TIFF", (13000, 13000), "1", compression="group4"),
    "large.jpg": lambda: stated(13000, 13000),
    "small.jpg": lambda: stated(1500, 1200),
    "progressive.jpg": lambda: stated(1500, 1200, progressive=True),
}
HONEST: dict[str, Callable[[], bytes]] = {
    "flat.jpg": lambda: saved("JPEG", (4000, 3000), optimize=True),
    "gray.jpg": lambda: saved("JPEG", (4000, 3000), "L", optimize=True),
    "progressive.jpg": lambda: saved("JPEG", (4000, 3000), "L", progressive=True, optimize=True),
    "flat.png": lambda: saved("PNG", (6000, 4000)),
    "blank page.tif": lambda: saved("TIFF", (2480, 3508), "1", compression="group4"),
    "flat.webp": lambda: saved("WEBP", (2000, 1500)),
    "wide.png": lambda: flat_png(100_000, 1, 8, 2),
}


@pytest.fixture
def memory(tmp_path) -> Callable[[str], dict]:
    """memory("inspect"): result and added memory in MB per file of the folder, measured in a process."""

    def measure(how: str) -> dict:
        code = (
            "import json, sys, warnings; from pathlib import Path; warnings.simplefilter('ignore')\n"
            "from tcs_edge.data import decode\n"
            "def mb(key):\n"
            "    lines = open('/proc/self/status').read().splitlines()\n"
            "    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(key))\n"
            f"found, work = {{}}, decode.{how}\n"
            "for path in sorted(Path('.').iterdir()):\n"
            "    open('/proc/self/clear_refs', 'w').write('5'); before = mb('VmRSS')\n"
            "    try: reason = getattr(work(path), 'reason', None)\n"
            "    except decode.DataError as error: reason = str(error)\n"
            "    found[path.name] = [reason, mb('VmHWM') - before, decode.decoded_bytes(path) / 1e6]\n"
            "print(json.dumps(found))"
        )
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return measure


def script():
    scope = {"__name__": "edge_images", "__file__": str(DECODER)}
    exec(DECODER.read_text(), scope)
    return scope["open_rgb"]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_with_its_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BOMBS[name]())
    expected = "a decompression bomb|a false size"
    with pytest.raises(DataError, match=rf"^cannot read image {path}: .*({expected})"):
        open_rgb(path)
    with pytest.raises(DataError, match=expected):
        decode_rgb(path.read_bytes())
    with Image.open(path) as opened, pytest.raises(DataError, match=expected):
        as_rgb(opened)
    reason = inspect(path).reason
    assert "bomb" in reason or "a false size" in reason
    with pytest.raises(ValueError, match=expected):
        script()(path)


@pytest.mark.parametrize("name", HONEST)
def test_flat_images_of_usual_sizes_are_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(HONEST[name]())
    assert open_rgb(path).tobytes() == script()(path).tobytes()
    assert inspect(path).reason is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the peak memory of Linux")
@pytest.mark.parametrize("how", ["inspect", "open_rgb"])
def test_bombs_take_no_memory(tmp_path, memory, how):
    for name in BOMBS:
        (tmp_path / name).write_bytes(BOMBS[name]())
    for name, (reason, added_mb, _) in memory(how).items():
        assert reason, name
        assert added_mb < 30, name


def noise(folder: Path, name: str, mode: str = "RGB", **options: object) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").resize((3000, 2000)).convert(mode).save(folder / name, **options)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the peak memory of Linux")
def test_the_estimate_counts_every_copy_of_a_decoder(tmp_path, memory):
    turn = Image.Exif()
    turn[0x0112] = 6
    for mode in ("RGB", "RGBA", "L", "LA", "1", "P"):
        noise(tmp_path, f"{mode}.png", mode, compress_level=1)
    for mode in ("RGB", "L", "CMYK"):
        noise(tmp_path, f"{mode}.jpg", mode)
        noise(tmp_path, f"turned {mode}.jpg", mode, exif=turn, progressive=True, subsampling=0)
        noise(tmp_path, f"{mode}.tif", mode)
    for mode in ("RGB", "RGBA"):
        noise(tmp_path, f"{mode}.webp", mode, method=0)
        noise(tmp_path, f"turned {mode}.webp", mode, lossless=True, method=0, quality=0, exif=turn)
        if features.check("avif"):
            noise(tmp_path, f"{mode}.avif", mode, speed=10)
    noise(tmp_path, "a.gif")
    noise(tmp_path, "a.bmp")
    for name, (reason, added_mb, estimate_mb) in memory("open_rgb").items():
        assert reason is None, name
        assert added_mb < 1.05 * estimate_mb + 8, (name, added_mb, estimate_mb)


@pytest.mark.slow
def test_a_bomb_is_one_line_without_a_warning_of_pillow(tmp_path, cli, finished):
    """The limit of Pillow's own warning is below that of the tool; the warning shows a path and a line of Pillow."""
    bomb, bundle = tmp_path / "bomb.bmp", tmp_path / "bundle"
    bomb.write_bytes(struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 13000, 13000, 1, 24, 0, 0, 0, 0, 0, 0))
    assert cli("bundle", finished, "--out", bundle).exit_code == 0
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for command in (("-m", "tcs_edge", "predict", finished), ("-I", bundle / "classify.py")):
        words = [sys.executable, *command, bomb]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment, check=False)
        assert done.returncode == 3
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: cannot read image {bomb}: 54 bytes that need")

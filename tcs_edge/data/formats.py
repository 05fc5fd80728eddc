"""Image formats: suffixes that a folder scan reads, and how to name the files that it does not read.

The bytes of a file determine its format. The suffix only determines whether a folder scan includes the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import features

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
EXPECTED = "JPEG, PNG, WebP, BMP, TIFF or GIF"
INSTALL = "pip install 'tcs-edge[heif]'"

_AVIF = (".avif",)
_HEIF = (".heic", ".heif", ".hif")
_RAW = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef",
    ".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
_OTHERS = (
    ".ai", ".bpg", ".cur", ".dcm", ".dds", ".djvu", ".emf", ".eps", ".exr", ".fit", ".fits", ".flif", ".hdp", ".hdr",
    ".icns", ".ico", ".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx", ".jxl", ".jxr", ".pbm", ".pcx", ".pfm", ".pgm",
    ".pnm", ".ppm", ".psb", ".psd", ".qoi", ".ras", ".sgi", ".svg", ".svgz", ".tga", ".wdp", ".wmf", ".xbm", ".xcf",
    ".xpm",
)  # fmt: skip
_HEAD_BYTES = 16
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"8BPS", "PSD"),
)  # fmt: skip
_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF"}


@cache
def readable_suffixes() -> tuple[str, ...]:
    """Suffixes of the formats that this installation reads; AVIF and HEIC depend on it."""
    return SUFFIXES + (_AVIF if _reads_avif() else ()) + (_HEIF if _reads_heif() else ())


@cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that this installation reads."""
    return FORMATS + (("AVIF",) if _reads_avif() else ()) + (("HEIF",) if _reads_heif() else ())


def has_image_suffix(name: str) -> bool:
    """Return True if a file name has the suffix of a readable image format, in any case."""
    return name.lower().endswith(readable_suffixes())


def unread_kind(path: Path) -> str | None:
    """Name the format of an image file that a folder scan does not read: its suffix, or "JPEG without suffix".

    Files that are not images give None. For an unknown suffix, the first bytes decide.
    """
    suffix = path.suffix.lower()
    if suffix in (*_AVIF, *_HEIF, *_RAW, *_OTHERS):
        return suffix
    found = sniffed(path)
    return None if found is None else f"{found} with suffix {suffix}" if suffix else f"{found} without suffix"


def sniffed(source: Path | bytes) -> str | None:
    """Name the image format of a file, or of its bytes; None for another content or an unreadable file."""
    try:
        head = source[:_HEAD_BYTES] if isinstance(source, bytes) else _head(source)
    except OSError:
        return None
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def how_to_read(kinds: Iterable[str]) -> str:
    """Return the fix for files of these kinds, from `unread_kind` or `sniffed`."""
    needed = set(kinds)
    plugin = {kind for kind in needed if kind in _HEIF or kind.startswith("HEIC")}
    named = {kind for kind in needed - plugin if " with" in kind}
    steps = [f"Run {INSTALL} to read HEIC."] if plugin else []
    steps += ["Give the files a suffix such as .jpg."] if named else []
    return " ".join([*steps, *(["Convert the files to JPEG or PNG."] if needed - plugin - named else [])])


def _reads_avif() -> bool:
    return bool(features.check("avif"))


def _reads_heif() -> bool:
    """Register the reader of the optional extra, if it is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True

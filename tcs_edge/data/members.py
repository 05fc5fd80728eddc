"""Images inside of archives, read in place: one `Member` is the bytes of one image.

Each read opens the archive, so that threads and forked processes share no file position.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from tcs_edge.errors import DataError

PLAIN, STORED, DEFLATED = -1, 0, 8  # bytes of a tar; methods of a zip (APPNOTE 4.4.5)
_ZIP_HEADER_BYTES = 30
_ZIP_SIGNATURE = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Member:
    """An image inside an archive.

    Attributes:
        start: position of the image's bytes in a tar, or of its local header in a zip.
        length: number of stored bytes.
        size: number of bytes of the image.
        method: `PLAIN`, `STORED` or `DEFLATED`.
        crc: CRC-32 of the image in a zip; 0 for a tar.
    """

    archive: Path
    name: str
    start: int
    length: int
    size: int
    method: int
    crc: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def read(self) -> bytes:
        """Return the bytes of the image.

        Raises:
            OSError: the archive cannot be read.
            DataError: the archive is damaged or was replaced; the message is the reason alone.
        """
        with self.archive.open("rb") as file:
            file.seek(self.start)
            if self.method != PLAIN:
                header = file.read(_ZIP_HEADER_BYTES)
                if header[:4] != _ZIP_SIGNATURE:
                    raise DataError("no file at its place in the zip, which is damaged or was replaced")
                file.seek(sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28)), 1)
            content = file.read(self.length)
        if len(content) != self.length:
            raise DataError("the archive ends inside of it")
        return content if self.method == PLAIN else self._unpacked(content)

    def _unpacked(self, content: bytes) -> bytes:
        if self.method == DEFLATED:
            try:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, self.size + 1)
            except zlib.error as error:
                raise DataError(f"damaged in the zip ({error})") from None
        if len(content) != self.size or zlib.crc32(content) != self.crc:
            raise DataError("damaged in the zip (its checksum differs)")
        return content

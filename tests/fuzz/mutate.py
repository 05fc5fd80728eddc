"""Change one input of a reader: bytes, and the structure of JSON, TOML, XML, protobuf, safetensors, zip and PNG.

An input with several files joins them with `SPLIT`. Every change depends only on the input and the random numbers.
"""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

from protobuf import mutate_message

SPLIT = b"\0\0--next file--\0\0"
MAX_BYTES = 200_000

# Values that some JSON and TOML parsers accept, and some cannot represent.
VALUES = (
    "null", "true", "false", "0", "1", "-1", "-0.0", "0.0", "1e308", "1e400", "-1e308", "1e-400", "NaN", "Infinity",
    "-Infinity", "nan", "inf", "9223372036854775807", "9223372036854775808", "1" + "0" * 400, "9" * 5000, "1.5", "0.5",
    '""', '"\\u0000"', '"\\ud800"', '"\\u001b[31m\\u0007"', '"\\u202e"', '"a\\nb"', '"<script>alert(1)</script>"',
    '"../../x"', '"/etc/passwd"', '"."', '"' + "a" * 5000 + '"', '"1"', '"nan"', '"NaN"', '"5 %"', "[]", "{}", "[[]]",
    '[null]', '{"": {}}', "[" * 70 + "]" * 70, "0x7f", "1_000", "2026-01-01", "0000-01-01T00:00:00Z", "'''a'''",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1)
TEXTS = (
    b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\x1b[31m", b"\xed\xa0\x80", b"\xc3(", b"\r\n", b"\n", b'"', b"{", b"[", b"]",
    b"version https://git-lfs.github.com/spec/v1\n", b"\xe2\x80\xae", b"--", b"&#0;", b"<!DOCTYPE x>", b"%s", b"../",
)  # fmt: skip


def mutate(kind: str, data: bytes, draw: random.Random) -> bytes:
    """Return a changed input; one of several files is changed, by one to four changes."""
    files = data.split(SPLIT)
    place = 0 if len(files) == 1 or draw.random() < 0.6 else draw.randrange(len(files))
    change = CHANGES.get(kind, change_bytes)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 4))):
        chosen = change if draw.random() < 0.8 else change_bytes
        files[place] = chosen(files[place], draw)[:MAX_BYTES]
    return SPLIT.join(files)


def change_bytes(data: bytes, draw: random.Random) -> bytes:
    """Flip, cut, repeat, insert or overwrite bytes."""
    if not data:
        return draw.choice(TEXTS)
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.choice((1, 1, 2, 4, 8, 64, 1000)))
    kind = draw.randrange(8)
    if kind == 0:
        return data[:start] + bytes([data[start] ^ 1 << draw.randrange(8)]) + data[start + 1 :]
    if kind == 1:
        return data[:start]
    if kind == 2:
        return data[:start] + data[end:]
    if kind == 3:
        return data[:start] + data[start:end] * draw.choice((2, 3, 50)) + data[end:]
    if kind == 4:
        return data[:start] + draw.choice(TEXTS) + data[start:]
    if kind == 5:
        packed = _packed(draw)
        return data[:start] + packed + data[start + len(packed) :]
    if kind == 6:
        return data[:start] + bytes(draw.randrange(256) for _ in range(end - start)) + data[end:]
    other = draw.randrange(len(data))
    return data[:start] + data[other : other + end - start] + data[end:]


def _packed(draw: random.Random) -> bytes:
    number = draw.choice(NUMBERS) + draw.choice((0, 0, 1, -1))
    size = draw.choice((1, 2, 4, 8))
    return (number % 256**size).to_bytes(size, draw.choice(("little", "big")))


def change_json(data: bytes, draw: random.Random) -> bytes:
    """Replace, remove, rename, repeat or nest a value of a JSON document; write it as text."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return change_bytes(data, draw)
    if draw.random() < 0.04:
        return draw.choice(
            (b"\xef\xbb\xbf" + data, _as_text(document).encode("utf-16", "surrogatepass"), b"[" * 100_000, data + data)
        )
    places = list(_places(document))
    if not places:
        return draw.choice(VALUES).encode()
    holder, key = draw.choice(places)
    marks: dict[str, str] = {}
    _change_at(holder, key, places, marks, draw)
    text = _as_text(document)
    for mark, raw in marks.items():
        text = text.replace(f'"{mark}"', raw, 1)
    return text.encode("utf-8", "surrogatepass")


def _change_at(holder, key, places, marks: dict[str, str], draw: random.Random) -> None:
    kind = draw.randrange(7)
    if kind <= 2:
        mark = f"@@{len(marks)}@@"
        marks[mark] = draw.choice(VALUES) if kind else str(draw.choice(NUMBERS))
        holder[key] = mark
    elif kind == 3:
        del holder[key]
    elif kind == 4:
        other, name = draw.choice(places)
        holder[key] = other[name]
    elif kind == 5 and isinstance(holder, dict):
        value = holder[key]
        twin = "@@twin@@"
        holder[twin] = value
        marks[twin] = json.dumps(key)
    elif isinstance(holder, dict):
        holder[draw.choice(("x", "", "a" * 3000, "\x1b[31m", "schema_version", "<b>"))] = holder.pop(key)
    else:
        holder.extend([holder[key]] * draw.choice((1, 2, 40)))


def _as_text(document: object) -> str:
    try:
        return json.dumps(document, ensure_ascii=False)
    except (ValueError, RecursionError):  # a value inside itself
        return "[]"


def _places(document: object, depth: int = 0):
    """Yield (container, key) of every value."""
    if depth > 80:
        return
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in list(items):
        yield document, key
        yield from _places(value, depth + 1)


def change_toml(data: bytes, draw: random.Random) -> bytes:
    """Replace the value of a line; remove, repeat, move or nest lines."""
    lines = data.split(b"\n")
    place = draw.randrange(len(lines))
    kind = draw.randrange(7)
    if kind <= 2 and b"=" in lines[place]:
        lines[place] = lines[place].partition(b"=")[0] + b"= " + draw.choice(VALUES).encode()
    elif kind == 3:
        del lines[place]
    elif kind == 4:
        lines.insert(draw.randrange(len(lines) + 1), lines[place])
    elif kind == 5:
        key = draw.choice((b"extends", b"target", b"gate", b"x", b"'\\u001b'", b"a" * 3000, b"a." * 70 + b"a"))
        lines.insert(place, draw.choice((b"[%s]", b"[[%s]]", b"%s = 1", b'%s = "x"')) % key)
    else:
        return change_bytes(data, draw)
    return b"\n".join(lines)


ATTRIBUTE = re.compile(rb'([\w:]+)="([^"]*)"')
ELEMENT = re.compile(rb"<(\w+)[^<>]*?(?:/>|>[^<>]*</\1>)")
XML_VALUES = (
    b"", b"0", b"-1", b"1,-1", b"1,,2", b"9" * 30, b"4611686018427387904", b"u4", b"i4", b"string", b"f64", b"u1",
    b"i64", b"nf4", b"&#1;", b"&lt;", b"Const", b"Constant", b"\xd9\xa3", b"1 , 2", b"x" * 3000, b"boolean", b"f32",
    b"64",
)  # fmt: skip


def change_xml(data: bytes, draw: random.Random) -> bytes:
    """Replace an attribute, or repeat or remove an element."""
    found = list((ATTRIBUTE if draw.random() < 0.7 else ELEMENT).finditer(data))
    if not found:
        return change_bytes(data, draw)
    one = draw.choice(found)
    if one.re is ATTRIBUTE:
        return data[: one.start(2)] + draw.choice((*XML_VALUES, draw.choice(found)[2])) + data[one.end(2) :]
    put = draw.choice((b"", one[0] * 2, b"<body>" + one[0] + b"</body>", b'<x xmlns="y">' + one[0] + b"</x>"))
    return data[: one.start()] + put + data[one.end() :]


def change_safetensors(data: bytes, draw: random.Random) -> bytes:
    """Change the JSON header, mostly with its length kept true, or the tensors."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 10 or size > len(data) or draw.random() < 0.2:
        return change_bytes(data, draw)
    header = change_json(data[8 : 8 + size], draw)
    length = len(header) if draw.random() < 0.9 else draw.choice(NUMBERS) % 2**63
    return struct.pack("<Q", length) + header + data[8 + size :]


def change_png(data: bytes, draw: random.Random) -> bytes:
    """Change the content of one chunk and write its checksum again; other images are changed as bytes."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or draw.random() < 0.2:
        return change_bytes(data, draw)
    chunks, place = [], 8
    while place + 12 <= len(data) and len(chunks) < 100:
        (size,) = struct.unpack(">I", data[place : place + 4])
        chunks.append([data[place + 4 : place + 8], data[place + 8 : place + 8 + size]])
        place += 12 + size
    if not chunks:
        return change_bytes(data, draw)
    chosen = draw.randrange(len(chunks))
    if draw.random() < 0.15:
        chunks.insert(draw.randrange(len(chunks)), list(chunks[chosen]))
    elif chunks[chosen][0] == b"IDAT" and draw.random() < 0.5:
        chunks[chosen][1] = zlib.compress(bytes(draw.randrange(256) for _ in range(draw.choice((0, 10, 500)))))
    else:
        chunks[chosen][1] = change_bytes(chunks[chosen][1], draw)
    parts = (struct.pack(">I", len(b)) + t + b + struct.pack(">I", zlib.crc32(t + b)) for t, b in map(tuple, chunks))
    return data[:8] + b"".join(parts)


def change_text(data: bytes, draw: random.Random) -> bytes:
    """Replace, repeat or remove a word or a line."""
    lines = data.split(b"\n")
    place = draw.randrange(len(lines))
    words = re.split(rb"([ =])", lines[place])
    kind = draw.randrange(5)
    if kind <= 2:
        words[draw.randrange(len(words))] = draw.choice((*WORDS, str(draw.choice(NUMBERS)).encode()))
        lines[place] = b"".join(words)
    elif kind == 3:
        lines.insert(draw.randrange(len(lines) + 1), lines[place])
    else:
        del lines[place]
    return b"\n".join(lines)


WORDS = (
    b"", b" ", b"=", b"-1", b"--1", b"-23300", b"nan", b"inf", b"1e400", b"9" * 5000, "\u00b2".encode(),
    "\u0663=1".encode(), b"--1=2",
    b"x" * 3000, b"0", b"1", b"-0", b"1.5", b"\x1b[31m", b"Convolution", b"InnerProduct", b"Gemm", b"Embed", b"Split",
)  # fmt: skip


def change_zip(data: bytes, draw: random.Random) -> bytes:
    """Change one file of an archive, mostly with its checksum kept true."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()[:8]}
    except Exception:  # many types, on damaged bytes
        return change_bytes(data, draw)
    if not members or draw.random() < 0.2:
        return change_bytes(data, draw)
    name = draw.choice(list(members))
    if draw.random() < 0.15:
        members[draw.choice(("names.npy", "sha256.npy", "features.npy", "x"))] = members.pop(name)
    elif draw.random() < 0.5:  # the header of an array is Python's text
        text = draw.choice(
            (b"'|O'", b"(9,", b"(2, 3, ", b"True", b"'<f8'", b"'<U9'", b"None", b"(" * 300, b"\n", b"1" * 5000)
        )
        place = draw.randrange(min(130, len(members[name]) + 1))
        members[name] = members[name][:place] + text + members[name][place + len(text) * draw.randrange(2) :]
    else:
        members[name] = change_bytes(members[name], draw)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", draw.choice((0, 8, 12, 14))) as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member), content, archive.compression)
    return made.getvalue()


CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": change_json,
    "toml": change_toml,
    "xml": change_xml,
    "safetensors": change_safetensors,
    "image": change_png,
    "zip": change_zip,
    "text": change_text,
    "protobuf": lambda data, draw: mutate_message(data, draw, change_bytes),
}

"""Change a protobuf message field by field, without its schema, so that all lengths stay true."""

from __future__ import annotations

import random
from collections.abc import Callable

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
NUMBERS = (0, 1, 2, 3, 7, 9, 16, 21, 22, 23, 99, 127, 1023, 1024, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
MOST_FIELDS = 3000

Field = list  # [number, wire type, value]; the value of LENGTH is bytes or a list of fields


def mutate_message(data: bytes, draw: random.Random, change_bytes: Callable[[bytes, random.Random], bytes]) -> bytes:
    """Return the message with one changed, added, removed or repeated field."""
    fields = parse(data)
    if not fields:
        return change_bytes(data, draw)
    places = list(_places(fields))
    holder, index = draw.choice(places)
    _change(holder, index, places, draw, change_bytes)
    return write(fields)


def _change(holder, index, places, draw, change_bytes) -> None:
    kind = draw.randrange(6)
    field = holder[index]
    if kind == 0:
        del holder[index]
    elif kind == 1:
        holder[index:index] = [field] * draw.choice((1, 2, 30))
    elif kind == 2:
        other, place = draw.choice(places)
        holder.insert(index, other[place])
    elif kind == 3:
        field[0] = draw.choice((*range(1, 24), 33, 100))
    elif field[1] == VARINT:
        field[2] = draw.choice((*NUMBERS, field[2] ^ 1 << draw.randrange(10), (field[2] + 1) % 2**64))
    elif isinstance(field[2], bytes):
        field[2] = change_bytes(field[2], draw)
    else:
        other, place = draw.choice(places)
        field[2] = list(field[2]) if other[place] is field else [*field[2], other[place]]


def _places(fields: list[Field], depth: int = 0):
    if depth > 60:
        return
    for index, field in enumerate(fields):
        yield fields, index
        if isinstance(field[2], list):
            yield from _places(field[2], depth + 1)


def parse(data: bytes, depth: int = 0) -> list[Field] | None:
    """Return the fields of a message; None for bytes that are none."""
    fields: list[Field] = []
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if tag < 0 or not 0 < number < 2**20 or len(fields) > MOST_FIELDS:
            return None
        if wire == VARINT:
            value, place = _varint(data, place)
            if value < 0:
                return None
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
            value, place = data[place : place + size], place + size
        elif wire == LENGTH:
            size, place = _varint(data, place)
            value, place = data[place : place + max(size, 0)], place + size
            if size < 0 or len(value) < size:
                return None
            inner = parse(value, depth + 1) if 0 < size < 20_000 and depth < 20 else None
            value = inner or value
        else:
            return None
        fields.append([number, wire, value])
    return fields if place == len(data) else None


def write(fields: list[Field], depth: int = 0) -> bytes:
    """Return the bytes of the fields."""
    if depth > 120:
        return b""
    parts = []
    for number, wire, value in fields:
        parts.append(_written(number << 3 | wire))
        if wire == VARINT:
            parts.append(_written(value))
        elif wire == LENGTH:
            content = write(value, depth + 1) if isinstance(value, list) else value
            parts += [_written(len(content)), content]
        else:
            parts.append(bytes(value))
    return b"".join(parts)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value % 2**64, place
        shift += 7
    return -1, place


def _written(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])

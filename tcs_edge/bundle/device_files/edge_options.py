"""Convert the text of command-line options."""

import math


def number(kind: type, least: float = 0.0, most: float = math.inf, open_below: bool = True):
    """Return a converter for the text of an option to a number of type `kind`, of at most `most`.

    Args:
        open_below: the number must be above `least`; otherwise it may be equal.
    """

    def convert(text: str):
        value = kind(text)
        if not (least < value or (value == least and not open_below)) or not value <= most:
            raise ValueError
        return value

    convert.__name__ = "number"
    return convert


def frame_size(text: str) -> tuple[int, int]:
    """Convert WIDTHxHEIGHT to two numbers of at least 1."""
    width, height = map(int, text.lower().split("x"))
    if min(width, height) < 1:
        raise ValueError
    return width, height

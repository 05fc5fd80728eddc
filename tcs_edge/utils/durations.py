"""Durations as text in seconds, minutes, hours or days."""

from __future__ import annotations

MINUTE, HOUR, DAY = 60, 3600, 86400


def format_seconds(seconds: float) -> str:
    """Return a duration such as "0.4 s", "45 s", "2 min 10 s", "25 min", "2 h 10 min" or "3 d 4 h"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < 10 * MINUTE:
        return _pair(whole, MINUTE, "min", 1, "s")
    if round(whole / MINUTE) < 60:
        return f"{round(whole / MINUTE)} min"
    if round(whole / MINUTE) < DAY // MINUTE:
        return _pair(MINUTE * round(whole / MINUTE), HOUR, "h", MINUTE, "min")
    return _pair(HOUR * round(whole / HOUR), DAY, "d", HOUR, "h")


def _pair(seconds: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    count, rest = divmod(seconds, large)
    return f"{count} {large_unit}" + (f" {rest // small} {small_unit}" if rest >= small else "")


def format_ms(milliseconds: float) -> str:
    """Return milliseconds with three significant digits and no exponent, without the unit."""
    return f"{milliseconds:.3g}" if milliseconds < 999.5 else f"{milliseconds:.0f}"

"""Write SVG axes, lines and marks that take their colors from the page.

A plotting library writes fixed colors and text as outlines. These charts follow the page's light and dark
scheme through CSS classes, keep their text as text, and have a tooltip for every mark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from tcs_edge.report.page.names import columns_of, cut_to

NICE_STEPS = (1, 2, 5, 10)
LOG_STEPS = (1, 2, 5)
# Widths of characters at 11 px in a wide font, such as DejaVu Sans or Verdana; only to place and cut labels.
COLUMN_PX = 6.8
WIDTHS_PX = (
    dict.fromkeys("ijlI.,:;'|!()[] ", 4.2) | dict.fromkeys("frtJ-/", 5.0) | dict.fromkeys("mwMW@%…", 10.8) | {"_": 5.5}
)
CAPITAL_PX = 8.2
TICK_PX, TITLE_GAP_PX = 16, 34
TICK_GAP_PX, TICK_MARK_PX = 10.0, 4.0
MOST_TICKS = 18


@dataclass(frozen=True)
class Axis:
    """Map data in [low, high] to pixels in [start, end], linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of `value`; values outside the axis are clipped to its ends."""
        share = (self._scaled(value) - self._scaled(self.low)) / (self._scaled(self.high) - self._scaled(self.low))
        return self.start + (self.end - self.start) * min(1.0, max(0.0, share))

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most about `most` round numbers inside the axis."""
        return _log_ticks(self.low, self.high, most) if self.log else _linear_ticks(self.low, self.high, most)

    def steps(self) -> list[float]:
        """Return every step of 1, 2 and 5 inside a logarithmic axis; nothing for a linear one."""
        return _log_steps(self.low, self.high) if self.log else []

    def spaced_ticks(self, most: int = MOST_TICKS) -> list[float]:
        """Return the most round numbers, about `most` or fewer, with labels that do not overlap side by side."""
        for limit in range(most, 1, -1):
            ticks = self.ticks(limit)
            if self._apart(ticks):
                return ticks
        return self.ticks(1)[:1]

    def _apart(self, ticks: Sequence[float]) -> bool:
        """Return True if the labels of neighboring ticks keep their distance."""
        widths = [text_width(tick_label(tick)) for tick in ticks]
        needed = [(left + right) / 2 + TICK_GAP_PX for left, right in pairwise(widths)]
        return all(self(high) - self(low) >= gap for (low, high), gap in zip(pairwise(ticks), needed, strict=True))


def tick_label(value: float) -> str:
    """Format a round number without an exponent, such as "0.05" or "20,000"."""
    if value and not 1e-6 <= abs(value) < 1e12:
        return f"{value:g}"
    whole, point, rest = (f"{value:,.9f}" if abs(value) >= 10_000 else f"{value:.9f}").rstrip("0").partition(".")
    return whole + (point + rest if rest else "")


def padded(values: Sequence[float], share: float = 0.06, log: bool = False) -> tuple[float, float]:
    """Return (low, high) around `values` with a margin; high is always above low."""
    low, high = min(values), max(values)
    if log:
        factor = (high / low) ** share if high > low else 1.5
        return low / factor, high * factor
    margin = (high - low) * share if high > low else abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in NICE_STEPS if nice * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return steps of 1, 2 and 5, or powers of ten; steps of equal size for an axis with fewer than three."""
    every = _log_steps(low, high)
    if len(every) < 3:
        return [tick for tick in _linear_ticks(low, high, most) if low <= tick <= high]
    if len(every) <= most:
        return every
    powers = [step for step in every if f"{step:e}".startswith("1.0")]
    ticks = powers if len(powers) > 2 else every
    return ticks[:: math.ceil(len(ticks) / most)]


def _log_steps(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**decade for decade in decades for step in LOG_STEPS if low <= step * 10.0**decade <= high]


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """Return an SVG element; text and attribute values are escaped, numbers are rounded to 0.01.

    In attribute names a trailing underscore is removed, other underscores become hyphens.
    """
    given = {name: value for name, value in attributes.items() if value is not None}
    shown = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _shown(value)) for name, value in given.items()
    )
    return Markup("<{}{}>{}</{}>").format(Markup(tag), shown, Markup("").join(children), Markup(tag))


def _shown(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text(x: float, y: float, content: str, class_: str = "tick", anchor: str = "start", **more: object) -> Markup:
    """Draw a line of text at (x, y)."""
    return element("text", content, x=float(x), y=float(y), class_=class_, text_anchor=anchor, **more)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Draw a straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Draw a line through `points`."""
    return element("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), class_=class_)


def combs(bars: Iterable[tuple[float, float]], base: float, width: float, class_: str) -> Markup:
    """Draw vertical bars from `base` up to y at x, as one path, because there may be thousands."""
    drawn = "".join(f"M{x:.1f} {base:.1f}V{y:.1f}" for x, y in bars)
    return element("path", d=drawn, class_=class_, style=f"stroke-width:{width:.2f}px") if drawn else Markup("")


def drawing(width: int, height: int, label: str, *parts: str) -> Markup:
    """Return the chart as an image with an accessible description."""
    box = f"0 0 {width} {height}"
    return element("svg", *parts, viewBox=box, role="img", aria_label=label, style=f"max-width:{1.25 * width:.0f}px")


def frame(
    x: Axis,
    y: Axis,
    x_title: str,
    y_title: str,
    x_ticks: Sequence[float] | None = None,
    gap: float = 0.0,
) -> Markup:
    """Draw grid lines, ticks and titles; the y title is above its axis and horizontal.

    Args:
        x_ticks: None takes round numbers.
        gap: pixels left free between the x axis and its ticks.
    """
    parts: list[str] = []
    for value in y.ticks(5):
        parts.append(line(x.start, y(value), x.end, y(value), "grid"))
        parts.append(text(x.start - 6, y(value) + 4, tick_label(value), anchor="end"))
    shown = x.spaced_ticks() if x_ticks is None else x_ticks
    # A logarithmic axis has a mark at every step of 1, 2 and 5, also where there is no space for its label.
    for value in {*shown, *x.steps()}:
        parts.append(line(x(value), y.start + gap, x(value), y.start + gap + TICK_MARK_PX, "axis"))
    for value in shown:
        parts.append(text(x(value), y.start + gap + TICK_PX, tick_label(value), anchor="middle"))
    parts.append(line(x.start, y.start, x.end, y.start, "axis"))
    parts.append(text(x.end, y.start + gap + TITLE_GAP_PX, x_title, "axis-title", anchor="end"))
    parts.append(text(0, 12, y_title, "axis-title"))
    return Markup("").join(parts)


def text_width(content: str) -> float:
    """Estimate the width of `content` in pixels at the size of a mark's label."""
    return sum(map(_character_px, content))


def _character_px(char: str) -> float:
    if (known := WIDTHS_PX.get(char)) is not None:
        return known
    return CAPITAL_PX if char.isupper() else COLUMN_PX * columns_of(char)


def fitted(content: str, pixels: float) -> str:
    """Return `content`, cut with an ellipsis if it is wider than `pixels`."""
    return cut_to(content, pixels, _character_px)

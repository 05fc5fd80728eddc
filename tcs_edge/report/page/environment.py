"""Load the templates, and format names and numbers in them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tcs_edge.report.page.names import breakable_name, longest_word
from tcs_edge.report.text import one_line
from tcs_edge.utils.durations import format_seconds

PACKAGE = "tcs_edge.report.page"
NOTHING = "–"


@cache
def environment() -> Environment:
    """Return the jinja environment: it escapes all text except markup, and refuses unknown variables."""
    made = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "name": shown_name,
        "breakable": breakable_name,
        "longest": longest_word,
        "percent": percent,
        "sig": significant,
        "p_value": p_value,
        "mb": megabytes,
        "counted": counted,
        "listed": listed,
        "seconds": format_seconds,
    }
    made.globals["stylesheet"] = Markup(resource("chart.css") + resource("style.css"))
    return made


def resource(name: str) -> str:
    """Read a text file from the folder of the templates."""
    return (files(PACKAGE) / "templates" / name).read_text(encoding="utf-8")


def svg_document(drawing: str) -> str:
    """Return a drawing as an SVG file of its own, which follows the system's light or dark theme."""
    opening, drawn = drawing.split(">", 1)
    style = f"<style>\n{resource('chart.css')}svg {{ background: var(--page); }}\n</style>"
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{style}{drawn}\n'


def shown_name(text: str) -> Markup:
    """Escape an untrusted name, on one line and with isolated text direction."""
    return Markup("<bdi>{}</bdi>").format(one_line(text))


def percent(share: float | None, digits: int = 2) -> str:
    """Format a share in 0..1 as percent."""
    return NOTHING if share is None else f"{100 * share:.{digits}f} %"


def significant(value: float | None, unit: str = "", digits: int = 3) -> str:
    """Format a number with `digits` significant digits and its unit.

    From 1e-4 on there is no exponent: a large number is rounded to an integer, from 10,000 on with separators.
    """
    if value is None:
        return NOTHING
    short = f"{value:.{digits}g}"
    if "e" in short and 1 <= abs(value) < 1e15:
        short = f"{value:,.0f}" if abs(value) >= 9999.5 else f"{value:.0f}"
    return f"{short} {unit}".strip()


def p_value(value: float) -> str:
    """Format a p-value in 0..1 with up to 3 significant digits."""
    return "< 0.0001" if value < 1e-4 else significant(value)


def counted(number: int, thing: str, things: str = "") -> str:
    """Return "1 image" or "2 images"."""
    shown = f"{number:,}" if number >= 10_000 else str(number)
    return f"{shown} {thing if number == 1 else things or thing + 's'}"


def listed(words: Sequence[str]) -> str:
    """Join as "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def megabytes(size: int) -> str:
    """Format bytes as MB (10^6 bytes), small numbers as kB (10^3 bytes) or bytes."""
    if size < 100:
        return counted(size, "byte")
    return f"{size / 1e6:.2f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"

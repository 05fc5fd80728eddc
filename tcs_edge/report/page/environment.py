"""Load the templates, and format names and numbers in them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tcs_edge.report.text import one_line

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
    made.filters |= {"name": shown_name, "percent": percent, "sig": significant, "mb": megabytes}
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
    """Format a number with `digits` significant digits and its unit."""
    return NOTHING if value is None else f"{value:.{digits}g} {unit}".strip()


def megabytes(size: int) -> str:
    """Format bytes as MB (10^6 bytes), small numbers as kB (10^3 bytes)."""
    return f"{size / 1e6:.2f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"

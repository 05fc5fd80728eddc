"""The templates, and how names and numbers are shown in them."""

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
    """Everything is escaped unless it is markup already; an unknown variable is an error."""
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
    """A text file that lies beside the templates."""
    return (files(PACKAGE) / "templates" / name).read_text(encoding="utf-8")


def shown_name(text: str) -> Markup:
    """A name that anybody may have written: on one line, escaped, and unable to turn its neighbors around."""
    return Markup("<bdi>{}</bdi>").format(one_line(text))


def percent(share: float | None, digits: int = 2) -> str:
    """A share in 0..1 as per cent."""
    return NOTHING if share is None else f"{100 * share:.{digits}f} %"


def significant(value: float | None, unit: str = "", digits: int = 3) -> str:
    """A number with that many significant digits and its unit."""
    return NOTHING if value is None else f"{value:.{digits}g} {unit}".strip()


def megabytes(size: int) -> str:
    """Bytes as 10^6 bytes; small ones as 10^3."""
    return f"{size / 1e6:.2f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"

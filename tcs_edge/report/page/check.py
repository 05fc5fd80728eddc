"""Render the findings of `tcs-edge check` as a page with thumbnails, from which a list for --exclude can be saved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from tcs_edge.check.run import Distant, Findings
from tcs_edge.data.exclude import exclusion_line
from tcs_edge.report.check import alike_names, without_features_line
from tcs_edge.report.page.environment import environment, resource
from tcs_edge.report.page.images import embedded

SHOWN = 60  # images or pairs of a section


@dataclass(frozen=True)
class Card:
    """An image with the lines that `--exclude` reads.

    Attributes:
        note: what was found.
        drop: the line that drops the image.
        relabel: the line with the suggested class; empty without a suggestion.
        suggested: that class.
        thumbnail: a data URI; None for an unreadable image.
    """

    name: str
    part: str
    label: str | None
    note: str
    drop: str
    relabel: str
    suggested: str
    thumbnail: str | None


@dataclass(frozen=True)
class Section:
    """Findings of one kind; `groups` are the cards of each finding, at most `SHOWN` of `total`."""

    key: str
    title: str
    text: str
    groups: tuple[tuple[Card, ...], ...]
    total: int


def check_page(found: Findings) -> str:
    """Return the page as self-contained HTML."""
    sections = [section for section in _sections(found) if section.total]
    return (
        environment()
        .get_template("check.html.j2")
        .render(
            found=found,
            images=len(found.checked),
            leaks=len(found.leaks),
            sections=sections,
            alike=alike_names(found),
            few=[one for one in found.classes if one.few],
            most=max((one.images for one in found.classes), default=1) or 1,
            left_out=without_features_line(found),
            script=Markup(resource("check.js")),
        )
    )


def _sections(found: Findings) -> Iterable[Section]:
    make = _Cards(found)
    leaks = set(found.leaks)
    others = [pair for pair in found.copies if pair not in leaks]
    for key, title, text, pairs in (
        ("leaks", "Copies in train and test", "The model has seen these test images. Drop one of each pair.", leaks),
        ("copies", "Other copies", "Copies count twice. With two labels, one of them is wrong.", others),
    ):
        some = sorted(pairs, key=lambda pair: (pair.distance, pair.first, pair.second))
        groups = tuple(
            (make(pair.first, pair.kind), make(pair.second, f"distance {pair.distance:.2f}")) for pair in some[:SHOWN]
        )
        yield Section(key, title, text, groups, len(some))
    doubts = tuple(
        (make(one.row, f"margin {one.margin:.2f}", found.checked.classes[one.suggested]),)
        for one in found.doubts[:SHOWN]
    )
    text = "A probe that was fitted without the image prefers another class. The clearest cases come first."
    yield Section("doubts", "Doubtful labels", text, doubts, len(found.doubts))
    flaws = tuple((make(flaw.row, f"{flaw.kind}: {flaw.detail}"),) for flaw in found.flaws[:SHOWN])
    text = "Blurred, dark, overexposed, tiny or long images, and images of one gray value."
    yield Section("flaws", "Image quality", text, flaws, len(found.flaws))
    yield _distant(make, "outliers", "Outliers", "Far from all other labeled images.", found.outliers)
    title, text = "Unlabeled images unlike any label", "Far from all labeled images. They may show none of the classes."
    yield _distant(make, "unfamiliar", title, text, found.unfamiliar)


def _distant(make: _Cards, key: str, title: str, text: str, some: tuple[Distant, ...]) -> Section:
    groups = tuple((make(one.row, f"distance {one.distance:.2f}"),) for one in some[:SHOWN])
    return Section(key, title, text, groups, len(some))


class _Cards:
    """Make the card of an image; each thumbnail is made once."""

    def __init__(self, found: Findings) -> None:
        self.checked = found.checked
        self._thumbnails: dict[int, str | None] = {}

    def __call__(self, row: int, note: str, suggested: str = "") -> Card:
        checked = self.checked
        if row not in self._thumbnails:
            self._thumbnails[row] = embedded(lambda: checked.all.image(row))
        name = checked.name(row)
        relabel = exclusion_line(name, suggested) if suggested else ""
        part, label = checked.part_name(row), checked.label_name(row)
        return Card(name, part, label, note, exclusion_line(name), relabel, suggested, self._thumbnails[row])

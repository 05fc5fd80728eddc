"""The findings of `tcs-edge check` as a table on the screen and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tcs_edge.check.copies import CopyPair
from tcs_edge.check.run import Findings
from tcs_edge.data.listing import name_some
from tcs_edge.report.console import print_table

SCHEMA_VERSION = 1
SHOWN = 3  # examples in a row of the table


def print_findings(found: Findings) -> None:
    """Print one row for each kind of finding, with examples."""
    checked = found.checked
    parts = Counter(checked.part_name(row) for row in range(len(checked)))
    print_table(("images", "number"), [(part, str(count)) for part, count in parts.items()])
    print_table(("finding", "number", "examples"), _rows(found))


def _rows(found: Findings) -> list[tuple[str, str, str]]:
    name = found.checked.name

    def pairs(some: list[CopyPair]) -> list[str]:
        return [f"{name(pair.first)} = {name(pair.second)}" for pair in some]

    leaks = set(found.leaks)
    others = [pair for pair in found.copies if pair not in leaks]
    rows = [
        ("copies in train and test", pairs(list(found.leaks))),
        ("other copies", pairs(others)),
        *_flaw_rows(found),
        ("classes with few images", [f"{one.name} ({one.images})" for one in found.classes if one.few]),
        ("unreadable images", [bad.path for bad in found.skipped]),
    ]
    if found.teacher is not None:
        rows += [
            (
                "doubtful labels",
                [f"{name(one.row)} (is it {found.checked.classes[one.suggested]}?)" for one in found.doubts],
            ),
            ("classes that are alike", [f"{a} and {b} ({share:.0%})" for a, b, share in alike_names(found)]),
            ("outliers", [name(one.row) for one in found.outliers]),
            ("unlabeled, unlike any label", [name(one.row) for one in found.unfamiliar]),
        ]
    return [(kind, str(len(found_ones)), name_some(found_ones, SHOWN)) for kind, found_ones in rows]


def _flaw_rows(found: Findings) -> list[tuple[str, list[str]]]:
    kinds = ("all equal", "dark", "overexposed", "blurred", "tiny", "long")
    return [
        (f"{kind} images", [found.checked.name(flaw.row) for flaw in found.flaws if flaw.kind == kind])
        for kind in kinds
    ]


def alike_names(found: Findings) -> list[tuple[str, str, float]]:
    """Return (class, class, probability of one for images of the other) of the classes that are alike."""
    classes = found.checked.classes
    return [(classes[pair.first], classes[pair.second], pair.probability) for pair in found.alike]


def without_features_line(found: Findings) -> str | None:
    """Describe what is left out without features, or for images without them; None if nothing is."""
    if found.teacher is None:
        return (
            "left out without a teacher: doubtful labels, classes that are alike, outliers, unlabeled images unlike any"
            " label. Pass --teacher NAME."
        )
    missing = len(found.checked) - found.with_features
    if missing:
        return f"left out: {missing} images without cached features of {found.teacher}. Pass --teacher to compute them."
    return None


def findings_json(found: Findings) -> dict[str, Any]:
    """Return all findings as one JSON document."""
    checked = found.checked

    def image(row: int) -> dict[str, Any]:
        return {"image": checked.name(row), "split": checked.part_name(row), "label": checked.label_name(row)}

    leaks = set(found.leaks)
    return {
        "schema_version": SCHEMA_VERSION,
        "images": dict(Counter(checked.part_name(row) for row in range(len(checked)))),
        "fingerprint": checked.images.fingerprint,
        "teacher": found.teacher,
        "images_with_features": found.with_features,
        "leaks": len(leaks),
        "copies": [
            {
                "first": image(pair.first), "second": image(pair.second), "kind": pair.kind, "distance": pair.distance,
                "leak": pair in leaks,
            }
            for pair in found.copies
        ],
        "flaws": [image(flaw.row) | {"kind": flaw.kind, "detail": flaw.detail} for flaw in found.flaws],
        "classes": [{"name": one.name, "images": one.images, "few": one.few} for one in found.classes],
        "unreadable": [{"image": bad.path, "reason": bad.reason} for bad in found.skipped],
        "doubts": [
            image(one.row) | {"suggested": checked.classes[one.suggested], "margin": one.margin} for one in found.doubts
        ],
        "alike": [{"classes": [a, b], "probability": share} for a, b, share in alike_names(found)],
        "outliers": [image(one.row) | {"distance": one.distance} for one in found.outliers],
        "unfamiliar": [image(one.row) | {"distance": one.distance} for one in found.unfamiliar],
    }  # fmt: skip
